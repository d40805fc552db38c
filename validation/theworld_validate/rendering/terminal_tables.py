"""Tables in a terminal's width: columns that fit side by side, what does not beneath each row; in a pipe a row a line.

In: a table and a console. Out: its lines, printed there.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import MAX_CELL, Column, Table
from theworld_validate.rendering.terminal_causes import print_indented

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_LEAST_ROOM = 20  # characters that the first column leaves to the others
_MOST_BESIDE = 120  # characters of columns side by side, however wide the terminal: what is long is read beneath
_WIDEST = 10_000  # no screen is wider: it is a pipe, where a search finds a line, so that a row is one
_MOST_PADDED = 48  # characters of a column in a pipe: longer texts end their row, each after its title


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a table is laid out in a given width.

    Args:
        everywhere: columns with one value in all rows, and that value; they go into the title.
        beside: indices of the columns of the table proper.
        below: indices of columns that are written under each row.
    """

    everywhere: dict[str, str]
    beside: list[int]
    below: list[int]


def lay_out(table: Table, cells: list[list[str]], width: int) -> Layout:
    """Choose the columns that fit `width` characters, from the left; no number is ever cut.

    In a pipe every short column fits, whatever stands before it.

    Args:
        cells: the table's cells as they are printed, a list a column.
    """
    from rich.cells import cell_len

    def width_of(index: int) -> int:
        return max(map(cell_len, [table.columns[index].title, *cells[index]]))

    is_pipe = width > _WIDEST
    everywhere: dict[str, str] = {}
    beside, below = [0], []
    room = width - width_of(0)
    for index in range(1, len(table.columns)):
        if len(table.rows) > 1 and len(set(cells[index])) == 1:
            everywhere[table.columns[index].title] = cells[index][0]
            continue
        needed = 1 + width_of(index)
        fits = needed <= _MOST_PADDED if is_pipe else needed <= room and not below
        (beside if fits else below).append(index)
        room -= needed if fits else 0
    return Layout(everywhere=everywhere, beside=beside, below=below)


def print_table(console: "Console", title: str, table: Table) -> None:
    """Print a table; what does not fit goes under its row, and in a pipe to the row's end."""
    from rich.text import Text

    width = console.width if console.width > _WIDEST else min(console.width, _MOST_BESIDE)
    limit = max(min(width, _MOST_BESIDE) - _LEAST_ROOM, _LEAST_ROOM)
    cells = [
        [line(table.cell(row, index), limit if index == 0 else MAX_CELL) for row in range(len(table.rows))]
        for index in range(len(table.columns))
    ]
    layout = lay_out(table, cells, width)
    notes = ", ".join(f"{line(name)}: {text}" for name, text in layout.everywhere.items())
    console.print()
    console.print(Text.assemble((line(title), "bold"), (f" ({notes})" if notes else "", "dim")))
    printed = _new_table([table.columns[index] for index in layout.beside], [cells[index] for index in layout.beside])
    for row in range(len(table.rows)):
        printed.add_row(*(Text(cells[index][row]) for index in layout.beside))
    below = [
        [f"{table.columns[index].title}: {cells[index][row]}" for index in layout.below if cells[index][row]]
        for row in range(len(table.rows))
    ]
    if any(below):
        _print_with_notes(console, printed, below)
    else:
        console.print(printed)


def _new_table(columns: list[Column], cells: list[list[str]]) -> "RichTable":
    from rich.cells import cell_len
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column, texts in zip(columns, cells, strict=True):
        table.add_column(
            Text(line(column.title)),
            justify="right" if column.is_number else "left",
            no_wrap=True,
            min_width=max(map(cell_len, [column.title, *texts])),
        )
    return table


def _print_with_notes(console: "Console", table: "RichTable", below: list[list[str]]) -> None:
    """Print a table's rows, each followed by its notes."""
    from rich.console import Console
    from rich.text import Text

    is_pipe = console.width > _WIDEST
    width = console.width if is_pipe else min(console.width, _MOST_BESIDE)
    own = Console(file=io.StringIO(), width=width, color_system=None)
    with own.capture() as capture:
        own.print(table)
    header, *printed = capture.get().rstrip("\n").split("\n")
    console.print(Text(header.rstrip(), style="dim"))
    for text, notes in zip(printed, below, strict=True):
        console.print(Text("; ".join([text.rstrip(), *(notes if is_pipe else [])]), no_wrap=True))
        for note in () if is_pipe else notes:
            print_indented(console, note, style="dim")
