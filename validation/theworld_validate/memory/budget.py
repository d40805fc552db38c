"""Budgets: what cells may take, from a TOML file.

In: a file of [[budget]] tables. Out: `Budget`s, and findings for cells that are over theirs.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from theworld_validate.memory.cells import Cell
from theworld_validate.results import Finding, InputError

_GB = 10**9
_LIMITS = ("max_allocated_gb", "max_reserved_gb")
_CHOICES = tuple(field.name for field in fields(Cell))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that matching cells may take.

    Args:
        choices: fields of `Cell` that a cell must have; those that are left out match any.
        max_allocated_gb, max_reserved_gb: in 10^9 bytes; None for no limit.
    """

    choices: dict[str, Any]
    max_allocated_gb: float | None
    max_reserved_gb: float | None

    def matches(self, cell: Cell) -> bool:
        """Whether the budget is about this cell."""
        return all(getattr(cell, name) == value for name, value in self.choices.items())


def read_budgets(path: Path) -> tuple[Budget, ...]:
    """Read a budget file.

    Raises:
        InputError: if it cannot be read, holds no budget, an unknown key or no limit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"--budget {path}: not readable as TOML ({' '.join(str(error).split())})") from error
    entries = table.get("budget")
    if set(table) != {"budget"} or not isinstance(entries, list) or not entries:
        raise InputError(f"--budget {path}: it must hold [[budget]] tables and nothing else")
    return tuple(_read_one(path, number, entry) for number, entry in enumerate(entries, start=1))


def _read_one(path: Path, number: int, entry: dict[str, Any]) -> Budget:
    unknown = sorted(set(entry) - set(_CHOICES) - set(_LIMITS))
    if unknown:
        raise InputError(
            f"--budget {path}: budget {number} has an unknown key {unknown[0]}; "
            f"there are {', '.join((*_CHOICES, *_LIMITS))}"
        )
    limits = {name: entry.get(name) for name in _LIMITS}
    if not any(limits.values()):
        raise InputError(f"--budget {path}: budget {number} has no limit; give {' or '.join(_LIMITS)}")
    for name, value in limits.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
            raise InputError(f"--budget {path}: budget {number}: {name} must be a number above 0, got {value!r}")
    choices = {name: value for name, value in entry.items() if name in _CHOICES}
    return Budget(choices=choices, **limits)


def find_overruns(budgets: Iterable[Budget], results: Iterable[Any]) -> list[Finding]:
    """Findings for cells over their budget, and for budgets that no cell was measured against.

    Args:
        results: `Measured` or `Predicted`.
    """
    findings = []
    results = list(results)
    for number, budget in enumerate(budgets, start=1):
        matching = [result for result in results if budget.matches(result.cell)]
        if not matching:
            unused = _finding("memory.budget_unused", f"budget {number}", "no cell of this run is in it", None, None)
            findings.append(unused)
        for result in matching:
            for limit, taken in (
                (budget.max_allocated_gb, result.peak_allocated_bytes),
                (budget.max_reserved_gb, result.peak_reserved_bytes),
            ):
                if limit is not None and (taken is None or taken > limit * _GB):
                    took = "runs out of memory" if taken is None else f"takes {taken / _GB:.2f} GB"
                    message = f"{took}, and its budget is {limit:g} GB"
                    findings.append(_finding("memory.budget", result.cell.name, message, limit, taken))
    return findings


def _finding(code: str, location: str, message: str, expected: Any, actual: Any) -> Finding:
    return Finding(
        code=code,
        location=location,
        message=f"{location}: {message}",
        expected=expected,
        actual=actual,
        cause="the configuration, a library or the code takes more than was agreed"
        if code == "memory.budget"
        else "the budget's fields match no cell of the matrix",
        remedy="look at the split of the peak, switch a lever on, or change the budget on purpose"
        if code == "memory.budget"
        else "ask for that cell, or mend the budget's fields",
    )
