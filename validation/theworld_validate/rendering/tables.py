"""Measurements as tables and as one line; the cells of both as text.

In: a check's measurements: scalars, lists of rows, columns. Out: tables, whose columns are those of all rows, each
with a title of its own; a cell that a row does not have is empty.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from theworld_validate.rendering.plain_text import line
from theworld_validate.results import Finding, Measurement, Measurements, Row, Scalar

_UNITS = ("B", "kB", "MB", "GB", "TB")
_MANY = 1e6  # from here on, floats are written in full
_MAX_PARTS = 24  # of a line that describes measurements
_MAX_COLUMNS = 60
MAX_CELL = 600
# Columns whose name says another thing in another table.
_TITLES = {
    ("cells", "least_bytes"): "parameters and inputs",
    ("runs", "least_bytes"): "least memory to complete",
    ("levers", "least_bytes"): "least memory to complete",
    ("levers", "cell"): "configuration",
    ("times", "over_calibration_ratio"): "growth, each over its own calibration",
}
_TABLE_TITLES = {"cells": "configurations"}  # one word for one thing, wherever people read
_MOST_DIGITS = 9  # after the point, of two amounts that are told apart
_ANSWERS = ("fits", "completes")  # columns that say most where all say no
DIVERGENCE = "divergence"  # columns that the page draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its key in the rows, its title, and whether it holds numbers."""

    key: str
    title: str
    is_number: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one length, a value a column; None for an empty cell."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    def cell(self, row: int, column: int) -> str:
        """One value, as text."""
        return format_cell(self.columns[column].key, self.rows[row][column])


def format_bytes(num_bytes: float, *, digits: int = 1) -> str:
    """Write bytes in decimal units: 8_600_000_000 is 8.6 GB.

    Args:
        digits: after the point.
    """
    unit = 0
    while abs(num_bytes) >= 1000 and unit < len(_UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:.0f} {_UNITS[unit]}" if unit == 0 else f"{num_bytes:.{digits}f} {_UNITS[unit]}"


def bytes_apart(one: int, other: int) -> tuple[str, str]:
    """Write two amounts with as many digits as show that they differ."""
    texts = format_bytes(one), format_bytes(other)
    for digits in range(2, _MOST_DIGITS + 1):
        if texts[0] != texts[1] or one == other:
            break
        texts = format_bytes(one, digits=digits), format_bytes(other, digits=digits)
    return texts


def evidence_of(finding: Finding) -> list[tuple[str, Scalar]]:
    """What a finding expected, and what it found, as far as it says; bytes with their unit."""
    pair = finding.expected, finding.actual
    if (finding.field or "").endswith("_bytes"):
        one, other = (value if is_number(value) and isinstance(value, int) else None for value in pair)
        told = bytes_apart(one, other) if one is not None and other is not None else map(_bytes_or_none, (one, other))
        pair = tuple(told)
    return [(name, value) for name, value in zip(("expected", "actual"), pair, strict=True) if value is not None]


def _bytes_or_none(num_bytes: int | None) -> str | None:
    return None if num_bytes is None else format_bytes(num_bytes)


def table_title(name: str) -> str:
    """A table's name for people."""
    return _TABLE_TITLES.get(name) or title_of(name)


def is_number(value: object) -> bool:
    """Whether a value is a number that can be formatted as one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or value.bit_length() < 512


def format_value(value: Scalar) -> str:
    """Write a value that stands alone."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if is_number(value) else f"an integer of {value.bit_length():,} bits"
    return line(value)


def format_cell(column: str, value: Scalar) -> str:
    """Write one value of a table, by its column's key."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value) and not isinstance(value, str):
        if column.endswith("_bytes"):
            return format_bytes(value)
        if column in ("share", "percentage"):
            return f"{100 * value if column == 'share' else value:.2f} %"
        if isinstance(value, float):
            return f"{value:,.4g}" if abs(value) < _MANY else f"{value:,.0f}"
    return line(value, MAX_CELL) if isinstance(value, str) else format_value(value)


def title_of(column: str) -> str:
    """A column's name for people."""
    return line(column.removesuffix("_bytes").replace("_", " "), 80)


def titles_of(columns: Sequence[str], *, table: str = "") -> list[str]:
    """Titles that differ: of two that would be the same, the one of bytes says so, and what is left is numbered.

    Args:
        table: the table's name, by which some columns have a title of their own.
    """
    titles = [_TITLES.get((table, column)) or title_of(column) for column in columns]
    twice = {title for title, count in Counter(titles).items() if count > 1}
    for index, column in enumerate(columns):
        if titles[index] in twice and column.endswith("_bytes"):
            titles[index] = line(column.replace("_", " "), 80)
    seen: set[str] = set()
    for index, title in enumerate(titles):
        number, own = 2, title
        while own in seen:
            own, number = f"{title} ({number})", number + 1
        seen.add(own)
        titles[index] = own
    return titles


def tables_of(measurements: Measurements) -> list[Table]:
    """The measurements that are tables; columns that are empty throughout are left out."""
    tables = []
    for name, value in measurements.items():
        rows = _rows_of(name, value)
        if any(rows):
            tables.append(_make_table(name, rows))
    return tables


def _rows_of(name: str, value: Measurement) -> list[dict[str, Scalar]]:
    """A measurement as rows of scalars; none for scalars, for a curve's points, and for what the page draws."""
    if isinstance(value, dict):
        if name == DIVERGENCE:
            return []
        length = max((len(column) for column in value.values()), default=0)
        return [{key: column[i] for key, column in value.items() if i < len(column)} for i in range(length)]
    if not isinstance(value, list) or not value:
        return []
    rows: list[dict[str, Scalar]] = []
    for row in value:
        own: Row | dict[str, Scalar] = row if isinstance(row, dict) else {name: row}
        scalars = {key: item for key, item in own.items() if not isinstance(item, (list, dict))}
        if len(scalars) < len(own):
            return []
        rows.append(scalars)
    return rows


def _make_table(name: str, rows: list[dict[str, Scalar]]) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    telling = {key for row in rows for key, value in row.items() if value not in (None, "", 0)}
    telling |= {key for row in rows for key, value in row.items() if value is False and key in _ANSWERS}
    kept = [key for index, key in enumerate(keys) if index == 0 or key in telling][:_MAX_COLUMNS]
    columns = tuple(
        Column(key=key, title=title, is_number=any(is_number(row.get(key)) for row in rows))
        for key, title in zip(kept, titles_of(kept, table=name), strict=True)
    )
    return Table(name=name, columns=columns, rows=tuple(tuple(row.get(key) for key in kept) for row in rows))


def describe_measurements(measurements: Measurements, *, verb: str = "compared") -> str:
    """Write a check's measurements on one line.

    Args:
        verb: what was done with what `compared` counts.
    """
    parts = []
    for name, value in measurements.items():
        if value is None or isinstance(value, (list, dict)):
            continue
        words = verb if name == "compared" else line(name.replace("_", " "), 80)
        if name == "layers":
            parts.append(f"spread over the layers {line(value, 120)}")
        elif name == "capacity_bytes" and is_number(value):
            parts.append(f"{format_cell(name, value)} can be reserved{_of_what(measurements)}")
        elif name.endswith("_bytes") and is_number(value):
            parts.append(f"{format_cell(name, value)} {title_of(name)}")
        elif isinstance(value, float):
            parts.append(f"{words} {value:.3g}")
        elif isinstance(value, int) and not isinstance(value, bool):
            parts.append(f"{format_value(value)} {words}")
    more = [f"{len(parts) - _MAX_PARTS} more"] if len(parts) > _MAX_PARTS else []
    return ", ".join(parts[:_MAX_PARTS] + more)


def _of_what(measurements: Measurements) -> str:
    about = measurements.get("about_capacity")
    return f" ({line(about, 120)})" if isinstance(about, str) else ""
