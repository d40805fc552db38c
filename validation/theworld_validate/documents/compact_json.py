"""JSON that people can read and that stays short: what fits on a line is on one line.

In: values that JSON has. Out: ASCII text. An object or a list that fits is one line; so are any list of numbers and an
object of plain values, as a row of a table is, up to a length. Everything else has a line for each of its items, two
spaces further in.
"""

import json
from typing import Any

WIDTH = 120  # columns
ROW_WIDTH = 500  # of an object that holds neither objects nor lists


def compact_json(value: Any) -> str:
    """Write a value as JSON text that ends with a line break.

    Raises:
        TypeError: if JSON has no such value.
        ValueError: for a number that is not finite.
    """
    return _text(value, column=0, indent=0) + "\n"


def _text(value: Any, *, column: int, indent: int) -> str:
    """A value that begins at a column, in something that is so far indented."""
    if not isinstance(value, (dict, list, tuple)) or not value or _is_numbers(value):
        return json.dumps(value, allow_nan=False)
    width = ROW_WIDTH if _is_row(value) else WIDTH
    # An item is three characters at least: of more than a line holds, the line need not be made.
    if 3 * len(value) <= width and len(line := json.dumps(value, allow_nan=False)) + column < width:
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        items = []
        for key, item in value.items():
            name = json.dumps({key: 0})[1:-4]  # JSON's own word for a key that is a number or None
            items.append(f"{name}: {_text(item, column=indent + len(name) + 4, indent=indent + 2)}")
        start, end = "{", "}"
    else:
        items = [_text(item, column=indent + 2, indent=indent + 2) for item in value]
        start, end = "[", "]"
    lines = ",\n".join(inner + item for item in items)
    return f"{start}\n{lines}\n{' ' * indent}{end}"


def _is_numbers(value: Any) -> bool:
    return not isinstance(value, dict) and all(isinstance(item, (int, float)) or item is None for item in value)


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(item, (dict, list, tuple)) for item in value.values())
