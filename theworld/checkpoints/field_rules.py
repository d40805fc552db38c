"""Kinds of rules for the fields of a config: what a value must be, in words that an error can end with.

In: a value as JSON gives it. Out: nothing, or a `ValueError` of one line: the file, the field, the value, what to give.
"""

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from theworld.checkpoints.error_text import one_line, shown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a field's value must be: `holds` says whether it is, `expected` is the end of the error's line."""

    holds: Callable[[Any], bool]
    expected: str

    def or_null(self) -> "Rule":
        """The same rule, which lets null pass."""
        return Rule(holds=lambda value: value is None or self.holds(value), expected=f"{self.expected}, or null")


Table = Mapping[str, Rule]


def whole(low: int, high: int, *, even: bool = False) -> Rule:
    """A whole number in [low, high]."""
    return Rule(
        holds=lambda value: type(value) is int and low <= value <= high and not (even and value % 2),
        expected=f"a{'n even' if even else ''} whole number from {low:,} to {high:,}",
    )


def number(low: float, high: float, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or in (low, high] with `above`."""
    return Rule(
        holds=lambda value: is_finite(value) and low <= value <= high and not (above and value == low),
        expected=f"a number above {low:g}, up to {high:g}" if above else f"a number from {low:g} to {high:g}",
    )


def flag() -> Rule:
    """True or false."""
    return Rule(holds=lambda value: type(value) is bool, expected="true or false")


def fixed(value: Any, words: str) -> Rule:
    """Exactly one value."""
    return Rule(holds=lambda given: type(given) is type(value) and given == value, expected=words)


def one_of(values: Callable[[], Collection[str]]) -> Rule:
    """One of the names that a library knows, which are looked up when the rule is."""
    return Rule(
        holds=lambda value: isinstance(value, str) and value in values(), expected="a name that transformers knows"
    )


def text() -> Rule:
    """Text without control characters."""
    return Rule(holds=lambda value: isinstance(value, str) and value.isprintable(), expected="printable text")


def token_ids(*, several: bool = False) -> Rule:
    """An id, whose upper bound, the vocabulary, a relation checks; a list of them with `several`."""

    def holds(value: Any) -> bool:
        values = value if several and isinstance(value, list) else [value]
        return all(type(item) is int and item >= 0 for item in values)

    return Rule(holds=holds, expected="a token's id" + (", or a list of ids" if several else ""))


def is_finite(value: Any) -> bool:
    """Whether this is a finite number, and not a boolean."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, float) and math.isfinite(value)


def field_error(where: str, field: str, value: Any, expected: str) -> ValueError:
    """The error for one field of a config."""
    shown = shown_name(value) if not isinstance(value, str) else shown_name(repr(value))
    return ValueError(f"{one_line(where)}: {field} is {shown}; it must be {expected}")


def check_table(values: Mapping[str, Any], table: Table, *, where: str, prefix: str = "") -> None:
    """Hold the fields that are there against their rules.

    Raises:
        ValueError: for the first field that breaks its rule.
    """
    for field, rule in table.items():
        if field in values and not rule.holds(values[field]):
            raise field_error(where, prefix + field, values[field], rule.expected)


def check_spelling(values: Mapping[str, Any], table: Iterable[str], *, where: str, prefix: str = "") -> None:
    """Refuse a field that is nearly one of the table's: a library ignores it, and takes the default.

    Raises:
        ValueError: for the first such field.
    """
    known = list(table)
    for field in values:
        if field not in known and (close := difflib.get_close_matches(field, known, n=1, cutoff=0.85)):
            raise ValueError(
                f"{one_line(where)}: {prefix}{shown_name(field)} is no field, and would be ignored; "
                f"did you mean {close[0]}?"
            )
