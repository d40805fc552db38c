"""Lines and areas of bytes: the course of a step, the peaks of a run's steps, peaks over growing sizes.

In: typed rows of a memory check. Out: paths in a box of 100 x 100, with the ticks of their axes; texts lie outside the
picture, so that nothing is cut or squeezed with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from theworld_validate.rendering.figures import thinned
from theworld_validate.rendering.memory_rows import Course, Curve, RunCourse
from theworld_validate.rendering.page.axis import Axis, Tick, axis_with_limit
from theworld_validate.rendering.tables import format_bytes, title_of

_NUM_POINTS = 120
_NUM_STEPS = 400
_MAX_PLOTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One configuration's course over a step: an area."""

    label: str
    ticks: tuple[Tick, ...]
    path: str
    aria: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a plot: its name, its path, and its colour's number."""

    name: str
    path: str
    colour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Lines over one axis of bytes.

    Args:
        across: what the other axis is; `begin` and `end` are its ends.
        limit: where the GPU's limit lies, in percent from below; None where there is none, or above the plot.
    """

    label: str
    ticks: tuple[Tick, ...]
    across: str
    begin: str
    end: str
    lines: list[Line]
    limit: float | None
    limit_text: str
    aria: str


def course_panel(course: Course, axis: Axis) -> Panel:
    """The area below a course; all panels have the same axis."""
    points = thinned(course.num_bytes, _NUM_POINTS)
    last = max(len(points) - 1, 1)
    drawn = [f"{100 * i / last:.1f},{100 - axis.share(value):.2f}" for i, value in enumerate(points)]
    return Panel(
        label=course.label,
        ticks=axis.ticks,
        path=f"M0,100 L{' L'.join(drawn)} L{100 if len(points) > 1 else 0},100 Z",
        aria=f"allocated memory over one step: up to {format_bytes(max(course.num_bytes))}",
    )


def plot_runs(runs: Sequence[RunCourse], capacity_bytes: int | None) -> Iterator[Plot]:
    """Each step's peaks, reserved over allocated, a plot a configuration; all with the same axis."""
    if not runs:
        return
    axis = axis_with_limit(max(max(run.reserved) for run in runs), capacity_bytes)
    for run in runs[:_MAX_PLOTS]:
        columns = (("reserved", run.reserved), ("allocated", run.allocated))
        yield Plot(
            label=run.label,
            ticks=axis.ticks,
            across="step",
            begin="1",
            end=f"{len(run.reserved):,}",
            lines=[
                Line(name=name, path=_steps(thinned(values, _NUM_STEPS), axis), colour=colour)
                for colour, (name, values) in zip((1, 0), columns, strict=True)
            ],
            limit=_limit(capacity_bytes, axis),
            limit_text=_limit_text(capacity_bytes, axis),
            aria=f"peaks of {len(run.reserved):,} steps: "
            + ", ".join(f"{name} up to {format_bytes(max(values))}" for name, values in columns),
        )


def plot_curves(curves: Sequence[Curve], capacity_bytes: int | None) -> Iterator[Plot]:
    """Peaks over growing sizes, a plot a configuration; all with the same axis."""
    if not curves:
        return
    highest = max(value or 0 for curve in curves for values in curve.peaks.values() for value in values)
    axis = axis_with_limit(highest, capacity_bytes)
    for curve in curves[:_MAX_PLOTS]:
        names = {peak: title_of(peak).removeprefix("peak ") for peak in curve.peaks}
        yield Plot(
            label=curve.label,
            ticks=axis.ticks,
            across=curve.over,
            begin="0",
            end=f"{max(curve.sizes):,}",
            lines=[
                Line(name=names[peak], path=_line(curve.sizes, values, axis), colour=number)
                for number, (peak, values) in enumerate(curve.peaks.items())
            ],
            limit=_limit(capacity_bytes, axis),
            limit_text=_limit_text(capacity_bytes, axis),
            aria=f"peaks over {curve.over}: "
            + ", ".join(
                f"{names[peak]} up to {format_bytes(max(v or 0 for v in curve.peaks[peak]))}" for peak in names
            ),
        )


def _limit(capacity_bytes: int | None, axis: Axis) -> float | None:
    return axis.share(capacity_bytes) if capacity_bytes and capacity_bytes <= axis.end_bytes else None


def _limit_text(capacity_bytes: int | None, axis: Axis) -> str:
    if not capacity_bytes:
        return ""
    where = ", above this plot" if capacity_bytes > axis.end_bytes else ""
    return f"the limit: {format_bytes(capacity_bytes)}{where}"


def _steps(values: Sequence[int], axis: Axis) -> str:
    """Horizontal pieces, one a step, joined upright."""
    width = 100 / len(values)
    drawn = [
        f"{i * width:.2f},{100 - axis.share(value):.2f} L{(i + 1) * width:.2f},{100 - axis.share(value):.2f}"
        for i, value in enumerate(values)
    ]
    return f"M{' L'.join(drawn)}"


def _line(sizes: Sequence[int], values: Sequence[int | None], axis: Axis) -> str:
    """A line through all points that are known; broken where one is not."""
    greatest = max(sizes)
    path, pen = "", "M"
    for size, value in zip(sizes, values, strict=True):
        if value is None:
            pen = "M"
            continue
        path += f"{pen}{100 * size / greatest:.2f},{100 - axis.share(value):.2f} "
        pen = "L"
    return path.strip()
