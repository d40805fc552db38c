"""Who owns the bytes at the peak: stacked bars by preset, all on one axis, the GPU's limit as a line across.

In: a memory check. Out: groups of bars, each with its peaks and its course, as shares of what is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from theworld_validate.rendering.memory_rows import Bar, CellPeak, Drawable, Key, colours_of, drawable_of, preset_of
from theworld_validate.rendering.page.axis import Axis, Tick, axis_to, axis_with_limit
from theworld_validate.rendering.page.plots import Panel, Plot, course_panel, plot_curves, plot_runs
from theworld_validate.rendering.plain_text import counted, line
from theworld_validate.rendering.tables import format_bytes, title_of
from theworld_validate.results import CheckResult, Measurement

MEMORY_TABLES = ("splits", "phase_peaks")  # measurements that are drawn here
_MAX_BARS = 200  # of one memory check
_NUM_OPEN = 12  # bars that are shown without unfolding anything
_NUM_COURSES_OPEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One kind's part of a bar: its colour, its share of the axis, and what it is."""

    colour: int
    share: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBar:
    """One configuration.

    Args:
        total: what is allocated at the peak, or why nothing is known of it.
        reserved: where the peak of reserved memory lies on the axis; None where it is not known.
        fits: in the limit; None where there is none.
        notes: the peaks of its phases and of reserved memory.
    """

    label: str
    total: str
    segments: list[Segment]
    reserved: float | None
    fits: bool | None
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGroup:
    """The configurations of one preset."""

    name: str
    summary: str
    is_open: bool
    bars: list[MemoryBar]
    courses: list[Panel]
    are_courses_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What may be reserved: where it lies on the axis, and what it is."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory check's drawings.

    Args:
        about: the workload that all configurations share, or the run's lengths and allocator.
        has_reserved: whether any bar has a mark for reserved memory.
    """

    check: str
    about: str
    kinds: list[tuple[str, int]]
    ticks: tuple[Tick, ...]
    limit: Limit | None
    has_reserved: bool
    groups: list[MemoryGroup]
    num_left_out: int
    plots: list[Plot]


def memory_of(check: CheckResult) -> Memory | None:
    """Everything that is drawn of a check's memory; None where that is nothing."""
    found = drawable_of(check)
    measured = check.measurements
    plots = [*plot_runs(found.runs, found.capacity_bytes), *plot_curves(found.curves, found.capacity_bytes)]
    if not found.bars and not plots:
        return None
    drawn = [bar.total for bar in found.bars] + [cell.reserved or 0 for cell in found.cells]
    axis = axis_with_limit(max(drawn, default=0), found.capacity_bytes)
    groups = list(_groups(found, axis))
    return Memory(
        check=line(check.id),
        about=", ".join(part for part in (found.bars_workload, *_of_a_run(measured)) if part),
        kinds=[(title_of(kind), colour) for kind, colour in colours_of(found.bars).items()],
        ticks=axis.ticks,
        limit=_limit(found.capacity_bytes, axis, measured),
        has_reserved=any(bar.reserved is not None for group in groups for bar in group.bars),
        groups=groups,
        num_left_out=max(len(found.bars) - _MAX_BARS, 0),
        plots=plots,
    )


def _of_a_run(measured: dict[str, Measurement]) -> Iterator[str]:
    if isinstance(lengths := measured.get("lengths"), str):
        yield line(lengths)
    if isinstance(allocator := measured.get("allocator"), str):
        yield f"allocator {line(allocator)}"


def _limit(capacity_bytes: int | None, axis: Axis, measured: dict[str, Measurement]) -> Limit | None:
    if not capacity_bytes:
        return None
    gpu, about = measured.get("gpu"), measured.get("about_capacity")
    of_what = f" that {line(gpu, 60)} leaves a process" if isinstance(gpu, str) else ""
    of_what += f" ({line(about, 120)})" if isinstance(about, str) else ""
    text = f"the limit: {format_bytes(capacity_bytes)}{of_what}"
    is_off = capacity_bytes > axis.end_bytes
    return Limit(at=axis.share(capacity_bytes), text=f"{text}, beyond this axis" if is_off else text)


def _groups(found: Drawable, axis: Axis) -> Iterator[MemoryGroup]:
    colours = colours_of(found.bars)
    bars = {bar.key: bar for bar in found.bars[:_MAX_BARS]}
    peaks = {cell.key: cell for cell in found.cells}
    courses = {course.key: course for course in found.courses}
    known = [*bars, *(cell.key for cell in found.cells if cell.allocated is None and cell.key not in bars)][:_MAX_BARS]
    by_preset: dict[str, list[Key]] = {}
    for key in [cell.key for cell in found.cells if cell.key in set(known)] or known:
        by_preset.setdefault(preset_of(key), []).append(key)
    highest = max((max(course.num_bytes) for course in found.courses), default=0)
    for number, (preset, keys) in enumerate(by_preset.items()):
        own = [courses[key] for key in keys if key in courses]
        yield MemoryGroup(
            name=line(preset, 80),
            summary=_summary([bars[key] for key in keys if key in bars], len(keys)),
            is_open=number == 0 or len(known) <= _NUM_OPEN,
            bars=[_bar(bars.get(key), peaks.get(key), colours, axis, found.phases.get(key, "")) for key in keys],
            courses=[course_panel(course, axis_to(highest)) for course in own],
            are_courses_open=len(own) <= _NUM_COURSES_OPEN,
        )


def _summary(bars: Sequence[Bar], num_all: int) -> str:
    text = counted(num_all, "configuration")
    if not bars:
        return text
    least, most = (format_bytes(edge(bar.total for bar in bars)) for edge in (min, max))
    return f"{text}, {least}" if least == most else f"{text}, {least} to {most}"


def _bar(bar: Bar | None, peak: CellPeak | None, colours: dict[str, int], axis: Axis, phases: str) -> MemoryBar:
    reserved = None if peak is None else peak.reserved
    notes = [f"reserved {format_bytes(reserved)}"] if reserved is not None else []
    if bar is None:
        phase = peak.out_of_memory if peak else None
        return MemoryBar(
            label=peak.label if peak else "",
            total=f"out of memory in {phase}" if phase else "no peak",
            segments=[],
            reserved=None,
            fits=False if phase else None,
            notes="; ".join([*notes, *([phases] if phases else [])]),
        )
    return MemoryBar(
        label=bar.label,
        total=format_bytes(bar.total),
        segments=[
            Segment(
                colour=colour,
                share=axis.share(bar.num_bytes[kind]),
                text=f"{title_of(kind)} {format_bytes(bar.num_bytes[kind])}",
            )
            for kind, colour in colours.items()
            if bar.num_bytes.get(kind)
        ],
        reserved=None if reserved is None or reserved > axis.end_bytes else axis.share(reserved),
        fits=None if peak is None else peak.fits,
        notes="; ".join([*notes, *([phases] if phases else [])]),
    )
