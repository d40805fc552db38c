"""Measurements that are tables: lists of rows, each a dictionary with the same keys.

In: a check's measurements. Out: the tables in them, their cells as text, and what of them fits a terminal.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_UNITS = ("B", "kB", "MB", "GB", "TB")
_MANY = 1e6  # from here on, floats are written in full
Row = dict[str, Any]


def format_bytes(num_bytes: float) -> str:
    """Write bytes in decimal units: 8_600_000_000 is 8.6 GB."""
    unit = 0
    while abs(num_bytes) >= 1000 and unit < len(_UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:.0f} {_UNITS[unit]}" if unit == 0 else f"{num_bytes:.1f} {_UNITS[unit]}"


def tables_of(measurements: dict[str, Any]) -> dict[str, list[Row]]:
    """The measurements that are tables: name -> rows; columns that are empty throughout are left out."""
    return {
        name: [{column: row[column] for column in _telling_columns(rows)} for row in rows]
        for name, rows in measurements.items()
        if _is_table(rows)
    }


def _is_table(rows: Any) -> bool:
    """Whether a measurement is rows of scalars; a curve's points are for figures."""
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        return False
    return not any(isinstance(value, (list, dict)) for value in rows[0].values())


def _telling_columns(rows: list[Row]) -> list[str]:
    first, *_ = rows[0]
    return [column for column in rows[0] if column == first or any(row[column] not in (None, "", 0) for row in rows)]


def sum_compared(report: dict[str, Any]) -> dict[str, int]:
    """What was compared over all checks of a report: "tensors", bit for bit, and "bytes" of state."""
    measurements = [check["measurements"] for check in report["checks"]]
    return {
        "tensors": sum(measured.get("tensors_compared") or 0 for measured in measurements),
        "bytes": sum(measured.get("compared_bytes") or 0 for measured in measurements),
    }


def title_of(column: str) -> str:
    """A column's name for people."""
    return column.removesuffix("_bytes").replace("_", " ")


def format_cell(column: str, value: Any) -> str:
    """Write one value of a table, by its column's name."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.endswith("_bytes"):
        return format_bytes(value)
    if column in ("share", "percentage"):
        return f"{100 * value if column == 'share' else value:.2f} %"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < _MANY else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def describe_measurements(measurements: dict[str, Any]) -> str:
    """Write a check's measurements on one line."""
    parts = []
    for name, value in measurements.items():
        if value is None or isinstance(value, (list, dict)):
            continue
        if name.endswith("_bytes"):
            parts.append(f"{format_bytes(value)} {name.removesuffix('_bytes').replace('_', ' ')}")
        elif name == "layers":
            parts.append(f"spread over the layers {value}")
        elif isinstance(value, float):
            parts.append(f"{name.replace('_', ' ')} {value:.3g}")
        elif isinstance(value, int) and not isinstance(value, bool):
            parts.append(f"{value:,} {name.replace('_', ' ')}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a table is laid out in a given width.

    Args:
        everywhere: columns with one value in all rows: column -> text; they go into the title.
        beside: columns of the table proper.
        below: columns that are written under each row.
    """

    everywhere: dict[str, str]
    beside: list[str]
    below: list[str]


def lay_out(rows: list[Row], width: int) -> Layout:
    """Choose the columns that fit `width` characters, from the left; no number is ever cut."""
    first, *others = rows[0]
    cells = {column: [format_cell(column, row[column]) for row in rows] for column in rows[0]}
    everywhere = {c: cells[c][0] for c in others if len(rows) > 1 and len(set(cells[c])) == 1}
    room = width - max(map(len, [title_of(first), *cells[first]]))
    beside, below = [first], []
    for column in others:
        if column in everywhere:
            continue
        needed = 1 + max(map(len, [title_of(column), *cells[column]]))
        fits = needed <= room and not below
        (beside if fits else below).append(column)
        room -= needed if fits else 0
    return Layout(everywhere=everywhere, beside=beside, below=below)


def print_table(console: "Console", title: str, rows: list[Row]) -> None:
    """Print a table in the terminal's width; what does not fit goes under its row."""
    from rich.table import Table
    from rich.text import Text

    layout = lay_out(rows, console.width)
    notes = ", ".join(f"{title_of(column)}: {text}" for column, text in layout.everywhere.items())
    console.print()
    console.print(Text.assemble((title, "bold"), (f" ({notes})" if notes else "", "dim")))

    def new_table() -> Table:
        return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")

    table = new_table()
    widths = [max(len(format_cell(c, row[c])) for row in rows) for c in layout.beside]
    for column, its_width in zip(layout.beside, widths, strict=True):
        is_number = any(isinstance(row[column], (int, float)) for row in rows)
        min_width = max(its_width, len(title_of(column)))
        table.add_column(title_of(column), justify="right" if is_number else "left", no_wrap=True, min_width=min_width)
    below: list[list[str]] = []
    for row in rows:
        table.add_row(*(Text(format_cell(column, row[column])) for column in layout.beside))
        notes_of_row = [f"{title_of(c)}: {format_cell(c, row[c])}" for c in layout.below if row[c] not in (None, "")]
        below.append(notes_of_row)
    if not any(below):
        console.print(table)
        return
    _print_with_notes(console, table, below)


def _print_with_notes(console: "Console", table: Any, below: list[list[str]]) -> None:
    """Print a table's rows, each followed by its notes."""
    from rich.padding import Padding
    from rich.text import Text

    with console.capture() as capture:
        console.print(table)
    header, *lines = capture.get().rstrip("\n").split("\n")
    console.print(Text.from_ansi(header))
    for line, notes in zip(lines, below, strict=True):
        console.print(Text.from_ansi(line))
        for note in notes:
            console.print(Padding(Text(note, style="dim"), (0, 0, 0, 4)))
