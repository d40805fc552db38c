"""The tables of the page: every measurement that is rows, each with the section that it belongs to; of bounded size.

In: a report. Out: what the template lays out.
"""

from dataclasses import dataclass

from theworld_validate.rendering.page.grids import FILES
from theworld_validate.rendering.page.memory import MEMORY_TABLES
from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import Table, is_number, table_title, tables_of
from theworld_validate.results import CheckResult, Report

_MAX_TABLE_ROWS = 1_000
_MAX_CELLS = 60_000  # of all tables
_DRAWN_ELSEWHERE = {"claims": ("claims",), "memory": MEMORY_TABLES, "releases": (FILES,)}
_PARAMS = "params"
_OPEN = ("levers", "runs")
_SECTIONS = (_PARAMS, "memory")  # groups of checks whose tables lie beside their drawings


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell: its text, and a number's value for sorting."""

    text: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """A table as the page shows it; rows that it leaves out are counted.

    Args:
        is_open: whether it is shown without unfolding it.
    """

    check: str
    title: str
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    num_rows: int
    is_open: bool = False

    @property
    def num_left_out(self) -> int:
        """Rows that are not shown."""
        return self.num_rows - len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTables:
    """All tables: those of parameters, those of memory, and the others."""

    params: list[PageTable]
    memory: list[PageTable]
    others: list[PageTable]


def page_tables(report: Report, drawn: set[str]) -> PageTables:
    """The tables of a report.

    Args:
        drawn: ids of checks whose rows are drawn: what the drawing says is not said again.
    """
    of: dict[str, list[PageTable]] = {name: [] for name in (*_SECTIONS, "others")}
    room = _MAX_CELLS
    for check in report.checks:
        group = check.id.partition(".")[0]
        for table in tables_of(check.measurements):
            if check.id in drawn and table.name in _DRAWN_ELSEWHERE.get(group, ()):
                continue
            is_alone = group == _PARAMS and check.id not in drawn
            made = _page_table(check, table, room, is_open=is_alone or table.name in _OPEN)
            room -= len(made.rows) * len(made.columns)
            of.get(group, of["others"]).append(made)
    return PageTables(params=of["params"], memory=of["memory"], others=of["others"])


def _page_table(check: CheckResult, table: Table, room: int, *, is_open: bool) -> PageTable:
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
        check=line(check.id),
        title=table_title(table.name),
        columns=columns,
        rows=rows,
        num_rows=len(table.rows),
        is_open=is_open,
    )
