"""The rows of memory checks that are drawn: who owns the bytes at the peak, a step's course, peaks over growing sizes.

In: a check. Out: typed rows with labels, for the page and the figures; none where a measurement is not such rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import format_bytes, title_of
from theworld_validate.results import CheckResult, Row

_WORKLOAD = ("batch", "text_tokens", "world_tokens", "frames", "new_tokens", "world_steps", "denoising_steps")
_MAX_LABEL = 120
_MAX_ROWS = 2_000
_LARGEST = 1 << 62  # bytes that can be drawn
# A step has gradients, and a call a cache.
_COLOUR_OF_KIND = {
    "parameters": 0,
    "gradients": 1,
    "cache": 1,
    "optimizer_state": 2,
    "activations": 3,
    "temporaries": 4,
    "inputs": 5,
    "workspace": 6,
    "rounding": 7,
}

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One configuration: its label, and bytes by kind."""

    key: Key
    label: str
    num_bytes: dict[str, int]

    @property
    def total(self) -> int:
        """All kinds together."""
        return sum(self.num_bytes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPeak:
    """One configuration's peaks.

    Args:
        allocated, reserved: in bytes; None where it did not come so far.
        fits: in the memory that was asked about; None where none was.
        out_of_memory: the phase in which it ended; None where it did not.
    """

    key: Key
    label: str
    allocated: int | None
    reserved: int | None
    fits: bool | None
    out_of_memory: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One configuration's allocated bytes over a step."""

    key: Key
    label: str
    num_bytes: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One configuration's peaks over growing sizes; None for a size that was not measured."""

    label: str
    over: str
    sizes: list[int]
    peaks: dict[str, list[int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCourse:
    """One configuration's peaks of each step of a run."""

    label: str
    allocated: list[int]
    reserved: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawable:
    """What can be drawn of a memory check; `workload` is what all rows of a kind have in common."""

    cells: list[CellPeak]
    bars: list[Bar]
    bars_workload: str
    courses: list[Course]
    courses_workload: str
    phases: dict[Key, str]
    curves: list[Curve]
    runs: list[RunCourse]
    capacity_bytes: int | None


def drawable_of(check: CheckResult) -> Drawable:
    """Read a check's measurements; rows that are not as memory checks write them are left out."""
    splits, timelines = _rows(check, "splits"), _rows(check, "timelines")
    labels, bars_workload = _label(splits)
    course_labels, courses_workload = _label(timelines)
    bars = [
        Bar(key=_key(row), label=label, num_bytes=_bytes_of(row)) for row, label in zip(splits, labels, strict=True)
    ]
    courses = [
        Course(key=_key(row), label=label, num_bytes=points)
        for row, label in zip(timelines, course_labels, strict=True)
        if (points := _points(row.get("bytes")))
    ]
    phases = {_key(row): _describe_phases(_bytes_of(row)) for row in _rows(check, "phase_peaks")}
    capacity = check.measurements.get("capacity_bytes")
    return Drawable(
        cells=_cells(_rows(check, "cells")),
        bars=[bar for bar in bars if bar.total],
        bars_workload=bars_workload,
        courses=courses,
        courses_workload=courses_workload,
        phases=phases,
        runs=_runs(_rows(check, "courses")),
        curves=[curve for row in _rows(check, "curves") if (curve := _curve(row)) is not None],
        capacity_bytes=capacity if _is_count(capacity) and isinstance(capacity, int) else None,
    )


def preset_of(key: Key) -> str:
    """The first part of a configuration's name: "projection + checkpointing" is one of projection's."""
    return key[0].partition(" + ")[0]


def colours_of(bars: Sequence[Bar]) -> dict[str, int]:
    """The kinds of all bars, in first-seen order, each with its colour's number from 0 to 7: a kind has one colour."""
    kinds = list(dict.fromkeys(kind for bar in bars for kind in bar.num_bytes))
    others = [kind for kind in kinds if kind.removesuffix("_bytes") not in _COLOUR_OF_KIND]
    numbers = {kind: number % 8 for number, kind in enumerate(others)}
    return {kind: numbers.get(kind, _COLOUR_OF_KIND.get(kind.removesuffix("_bytes"), 0)) for kind in kinds}


def _rows(check: CheckResult, name: str) -> list[Row]:
    value = check.measurements.get(name)
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict) and "configuration" in row][:_MAX_ROWS]


def _key(row: Row) -> Key:
    return tuple(str(row.get(name)) for name in ("configuration", *_WORKLOAD))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _bytes_of(row: Row) -> dict[str, int]:
    return {
        name: value
        for name, value in row.items()
        if name.endswith("_bytes") and isinstance(value, int) and _is_count(value)
    }


def _points(value: object) -> list[int]:
    points = value if isinstance(value, list) else []
    return points if all(_is_count(point) for point in points) and any(points) else []


def _cells(rows: Sequence[Row]) -> list[CellPeak]:
    labels, _ = _label(rows)
    return [
        CellPeak(
            key=_key(row),
            label=label,
            allocated=_peak(row.get("peak_allocated_bytes")),
            reserved=_peak(row.get("peak_reserved_bytes")),
            fits=fits if isinstance(fits := row.get("fits"), bool) else None,
            out_of_memory=line(phase, 40) if isinstance(phase := row.get("out_of_memory"), str) else None,
        )
        for row, label in zip(rows, labels, strict=True)
    ]


def _peak(value: object) -> int | None:
    return value if isinstance(value, int) and _is_count(value) else None


def _runs(rows: Sequence[Row]) -> list[RunCourse]:
    """Runs whose two columns are as long as each other."""
    labels, _ = _label(rows)
    both = [
        (label, _points(row.get("allocated")), _points(row.get("reserved")))
        for label, row in zip(labels, rows, strict=True)
    ]
    return [
        RunCourse(label=label, allocated=allocated, reserved=reserved)
        for label, allocated, reserved in both
        if allocated and len(allocated) == len(reserved)
    ]


def _curve(row: Row) -> Curve | None:
    """A curve whose sizes grow and whose peaks are as many as these."""
    sizes = _points(row.get("sizes"))
    peaks: dict[str, list[int | None]] = {}
    for name in ("peak_reserved_bytes", "peak_allocated_bytes"):
        column = row.get(name)
        if isinstance(column, list) and len(column) == len(sizes):
            values = [value if isinstance(value, int) and _is_count(value) else None for value in column]
            peaks |= {name: values} if any(value is not None for value in values) else {}
    if not sizes or not peaks:
        return None
    return Curve(
        label=line(row["configuration"], _MAX_LABEL), over=title_of(str(row.get("over"))), sizes=sizes, peaks=peaks
    )


def _label(rows: Sequence[Row]) -> tuple[list[str], str]:
    """Each row's configuration with what of its workload is its own, and what all have in common."""
    values = {name: {str(row.get(name)) for row in rows} for name in _WORKLOAD if any(name in row for row in rows)}
    own = [name for name, seen in values.items() if len(seen) > 1]
    labels = [
        ", ".join([line(row["configuration"], _MAX_LABEL), *(_workload(name, row) for name in own)]) for row in rows
    ]
    return labels, ", ".join(_workload(name, rows[0]) for name in values if name not in own)


def _workload(name: str, row: Row) -> str:
    value = row.get(name)
    return f"{title_of(name)} {f'{value:,}' if _is_count(value) else line(value, 40)}"


def _describe_phases(peaks: dict[str, int]) -> str:
    told = [f"{title_of(name)} {format_bytes(value)}" for name, value in peaks.items() if value]
    return f"peaks: {', '.join(told)}" if told else ""
