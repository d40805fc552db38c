"""Budgets: what configurations may take, from a TOML file.

In: a file of [[budget]] tables. Out: `Budget`s, and findings for cells that are over theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.documents.reading import read_toml
from theworld_validate.memory.adapter_config import Adapter
from theworld_validate.memory.cells import Cell, check_value, shown_value
from theworld_validate.memory.outcomes import Measured, Predicted
from theworld_validate.rendering.tables import bytes_apart, format_bytes
from theworld_validate.results import Finding, InputError

MAX_BYTES = 2**20
MAX_GB = 1e6
_GB = 10**9
_LIMITS = ("max_allocated_gb", "max_reserved_gb")
_CHOICES = tuple(field.name for field in fields(Cell))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that matching cells may take.

    Args:
        choices: fields of `Cell` that a cell must have, an adapter by its name; those that are left out match any.
        max_allocated_gb, max_reserved_gb: in 10^9 bytes; None for no limit.
    """

    choices: Mapping[str, str | int | bool] = field(default_factory=dict)
    max_allocated_gb: float | None = None
    max_reserved_gb: float | None = None

    def matches(self, cell: Cell) -> bool:
        """Whether the budget is about this cell."""
        return all(_field_of(cell, name) == value for name, value in self.choices.items())


def _field_of(cell: Cell, name: str) -> str | int | bool | None:
    """A field as a budget names it: an adapter by its name."""
    value = getattr(cell, name)
    return value.name if isinstance(value, Adapter) else value


def read_budgets(path: Path, *, any_preset: bool = False) -> tuple[Budget, ...]:
    """Read a budget file.

    Args:
        any_preset: take any text as a preset: those of another family than Gemma 3 are its model's parts.

    Raises:
        InputError: if it cannot be read, holds no budget, an unknown key, a value out of its range or no limit.
    """
    from theworld.checkpoints.error_text import one_line

    where = one_line(path)
    try:
        table = read_toml(path, max_bytes=MAX_BYTES)
        entries = table.get("budget")
        if set(table) != {"budget"} or not isinstance(entries, list) or not entries:
            raise InputError(f"{where}: it must hold [[budget]] tables and nothing else")
        budgets: list[Budget] = []
        number_of: dict[tuple[tuple[str, str | int | bool], ...], int] = {}
        for number, entry in enumerate(entries, start=1):
            budget = _read_one(entry, f"{where}: budget {number}", any_preset=any_preset)
            first = number_of.setdefault(tuple(sorted(budget.choices.items())), number)
            if first != number:
                raise InputError(
                    f"{where}: budget {number} is about the same configurations as budget {first}; keep one"
                )
            budgets.append(budget)
    except InputError as error:
        raise InputError(f"--budget {error}") from error
    return tuple(budgets)


def _read_one(entry: Any, where: str, *, any_preset: bool) -> Budget:
    from theworld.checkpoints.error_text import shown_name

    if not isinstance(entry, dict):
        raise InputError(f"{where} is {shown_name(entry)}, and must be a [[budget]] table")
    known = (*_CHOICES, *_LIMITS)
    for name in entry:
        if name not in known:
            hint = did_you_mean(name[:100], known, f"; there are {', '.join(known)}")
            raise InputError(f"{where} has an unknown key {shown_name(name)}{hint}")
    limits = {name: _read_limit(entry[name], f"{where}: {name}") for name in _LIMITS if name in entry}
    if not limits:
        raise InputError(f"{where} has no limit; give {' or '.join(_LIMITS)}")
    choices = {name: value for name, value in entry.items() if name in _CHOICES}
    for name, value in choices.items():
        if (name == "adapter" or (any_preset and name == "preset")) and isinstance(value, str):
            continue
        try:
            check_value(name, value)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
    return Budget(choices=choices, **limits)


def _read_limit(value: Any, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 < value <= MAX_GB):  # which NaN is not
        raise InputError(f"{where} must be a number above 0, up to {MAX_GB:,.0f}, got {shown_value(value)}")
    return float(value)


def find_overruns(budgets: Iterable[Budget], results: Sequence[Predicted] | Sequence[Measured]) -> list[Finding]:
    """Findings for cells over their budget, and for budgets that no cell was measured against."""
    findings = []
    for number, budget in enumerate(budgets, start=1):
        matching = [result for result in results if budget.matches(result.cell)]
        if not matching:
            findings.append(
                Finding(
                    code="memory.budget_unused",
                    location=f"budget {number}",
                    message=f"budget {number}: no configuration of this run is in it",
                    cause="the budget's fields match no configuration of the matrix",
                    remedy="ask for that configuration, or mend the budget's fields",
                )
            )
        for result in matching:
            for name, limit, taken in (
                ("peak_allocated_bytes", budget.max_allocated_gb, result.peak_allocated_bytes),
                ("peak_reserved_bytes", budget.max_reserved_gb, result.peak_reserved_bytes),
            ):
                if limit is not None and (taken is None or taken > limit * _GB):
                    findings.append(_overrun(result, round(limit * _GB), taken, name))
    return findings


def _overrun(result: Predicted | Measured, limit: int, taken: int | None, name: str) -> Finding:
    allowed = format_bytes(limit)
    if taken is not None:
        takes, allowed = bytes_apart(taken, limit)
        took = f"takes {takes}"
    elif isinstance(result, Predicted):
        took = f"takes more than {format_bytes(result.least_bytes)}, which does not fit"
    else:
        took = "ran out of memory" if result.error is None else "was not measured"
    title = result.cell.title
    return Finding(
        code="memory.budget",
        location=title,
        message=f"{title}: {took}, and its budget is {allowed}",
        expected=limit,
        actual=taken,
        field=name,
        cause="the configuration, a library or the code takes more than was agreed",
        remedy="look at the split of the peak, switch a lever on, or change the budget on purpose",
    )
