"""The other parts of the page: subjects, where it diverges, memory bars, tables; each of a bounded size.

In: a report. Out: what the template lays out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from theworld_validate.rendering.figures import thinned
from theworld_validate.rendering.memory_rows import Drawable, drawable_of, kinds_of
from theworld_validate.rendering.plain_text import cut_block, line
from theworld_validate.rendering.summary import describe_printed, subject_fields
from theworld_validate.rendering.tables import DIVERGENCE, Table, format_bytes, is_number, tables_of, title_of
from theworld_validate.results import CheckResult, Report

_MEMORY_TABLES = {"splits", "phase_peaks"}
_OWN_SECTIONS = {"params": "Parameters", "claims": "Documented claims"}
_NUM_POINTS = 120
_MAX_PRINTED = 40_000  # characters of one subject
_MAX_SUBJECTS = 12
_MAX_BARS = 200  # of one memory check
_MAX_MODULES = 300
_MODULES_BEFORE = 10  # the first that differs
_MAX_TABLE_ROWS = 1_000
_MAX_CELLS = 60_000  # of all tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """How the subjects were loaded: a row a field, a column a subject; and what each printed."""

    roles: list[str]
    rows: list[tuple[str, list[str], bool]]  # the field, its values, whether they differ
    printed: list[tuple[str, str, str]]  # the role, how much, the text
    num_left_out: int


def subjects_of(report: Report) -> Subjects:
    """The subjects side by side."""
    shown = report.subjects[:_MAX_SUBJECTS]
    fields = [dict(subject_fields(subject)) for subject in shown]
    names = list(dict.fromkeys(name for one in fields for name in one))
    rows = []
    for name in names:
        values = [one.get(name, "") for one in fields]
        rows.append((name, values, len(set(values)) > 1))
    printed = []
    for subject in shown:
        if subject.printed:
            text, is_cut = cut_block(subject.printed, _MAX_PRINTED)
            printed.append((line(subject.role), describe_printed(subject, _MAX_PRINTED if is_cut else None), text))
    return Subjects(
        roles=[line(subject.role) for subject in shown],
        rows=rows,
        printed=printed,
        num_left_out=len(report.subjects) - len(shown),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Modules in call order, from shortly before the first that differs."""

    check: str
    first: str
    rows: list[tuple[str, int, int]]  # the module, its outputs, how many of them differ
    num_before: int
    num_after: int


def divergence_of(check: CheckResult) -> Divergence | None:
    """Where a probe's trace diverges; None where nothing differs."""
    spread = check.measurements.get(DIVERGENCE)
    if not isinstance(spread, dict):
        return None
    columns = [spread.get(name, []) for name in ("modules", "outputs", "differing")]
    rows = [
        (line(module, 200), outputs, differing)
        for module, outputs, differing in zip(*columns, strict=False)
        if isinstance(outputs, int) and isinstance(differing, int) and 0 <= differing <= outputs < 1 << 62
    ]
    differs = [index for index, (_, _, differing) in enumerate(rows) if differing]
    if not differs:
        return None
    start = max(differs[0] - _MODULES_BEFORE, 0) if len(rows) > _MAX_MODULES else 0
    shown = rows[start : start + _MAX_MODULES]
    return Divergence(
        check=line(check.id),
        first=rows[differs[0]][0],
        rows=shown,
        num_before=start,
        num_after=len(rows) - start - len(shown),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBar:
    """One configuration: its bytes by kind as shares of the highest bar, and its course over a step."""

    label: str
    total: str
    shares: list[float]
    aria: str
    phases: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory check's bars."""

    check: str
    workload: str
    kinds: list[str]
    bars: list[MemoryBar]
    num_left_out: int


def memory_of(check: CheckResult) -> Memory | None:
    """Stacked bars of a memory check: who owns the bytes at the peak, the phases' peaks, and the step's course."""
    found = drawable_of(check)
    if not found.bars:
        return None
    kinds = kinds_of(found.bars)
    return Memory(
        check=line(check.id),
        workload=found.bars_workload,
        kinds=[title_of(kind) for kind in kinds],
        bars=list(_memory_bars(found, kinds)),
        num_left_out=max(len(found.bars) - _MAX_BARS, 0),
    )


def _memory_bars(found: Drawable, kinds: Sequence[str]) -> Iterator[MemoryBar]:
    highest = max(bar.total for bar in found.bars)
    courses = {course.key: course.num_bytes for course in found.courses}
    for bar in found.bars[:_MAX_BARS]:
        sizes = [bar.num_bytes.get(kind, 0) for kind in kinds]
        named = zip(kinds, sizes, strict=True)
        yield MemoryBar(
            label=bar.label,
            total=format_bytes(bar.total),
            shares=[100 * size / highest for size in sizes],
            aria=", ".join(f"{title_of(kind)} {format_bytes(size)}" for kind, size in named),
            phases=found.phases.get(bar.key, ""),
            path=_path(courses.get(bar.key, [])),
        )


def _path(values: Sequence[int]) -> str:
    """An area in a box of 100 x 20, the peak at its top."""
    points = thinned(values, _NUM_POINTS) if values else []
    if len(points) < 2:
        return ""
    last, highest = len(points) - 1, max(points)
    drawn = [f"{100 * i / last:.1f},{20 - 20 * value / highest:.2f}" for i, value in enumerate(points)]
    return f"M0,20 L{' L'.join(drawn)} L100,20 Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell: its text, and a number's value for sorting."""

    text: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """A table as the page shows it; rows that it leaves out are counted."""

    check: str
    title: str
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    num_rows: int

    @property
    def num_left_out(self) -> int:
        """Rows that are not shown."""
        return self.num_rows - len(self.rows)


def page_tables(report: Report) -> tuple[list[tuple[str, str, list[PageTable]]], list[PageTable]]:
    """The tables that have a section of their own (its anchor, its title), and the others."""
    own: dict[str, list[PageTable]] = {section: [] for section in _OWN_SECTIONS}
    others: list[PageTable] = []
    room = _MAX_CELLS
    for check in report.checks:
        for table in tables_of(check.measurements):
            if table.name in _MEMORY_TABLES and drawable_of(check).bars:
                continue
            made = _page_table(check, table, room)
            room -= len(made.rows) * len(made.columns)
            own.get(check.id.split(".")[0], others).append(made)
    return [(section, _OWN_SECTIONS[section], parts) for section, parts in own.items() if parts], others


def _page_table(check: CheckResult, table: Table, room: int) -> PageTable:
    num_rows = min(len(table.rows), _MAX_TABLE_ROWS, room // len(table.columns))
    rows = [
        [
            Cell(text=table.cell(row, index), value=str(value) if is_number(value) else None)
            for index, value in enumerate(table.rows[row])
        ]
        for row in range(num_rows)
    ]
    columns = [(column.title, column.is_number) for column in table.columns]
    return PageTable(
        check=line(check.id), title=title_of(table.name), columns=columns, rows=rows, num_rows=len(table.rows)
    )
