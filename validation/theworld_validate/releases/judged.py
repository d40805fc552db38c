"""What is said of a release: a verdict, one for each probe, and the findings behind them.

In: nothing. Out: `Verdict`, `Cell` and `Judged`.
"""

from dataclasses import dataclass
from enum import StrEnum

from theworld_validate.results import Finding


class Verdict(StrEnum):
    """How a release compares with the one before it; the worst of its parts, in this order."""

    EQUAL = "equal"
    EQUIVALENT = "equivalent"
    CHANGED = "changed"
    UNSAFE = "unsafe"
    FAILED = "failed"

    @property
    def passes(self) -> bool:
        """Whether one may go from one release to the other."""
        return self in (Verdict.EQUAL, Verdict.EQUIVALENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One probe in one release, against the release before it."""

    probe: str
    verdict: Verdict
    place: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One release against the one before it.

    Args:
        cells: a verdict for each probe.
        findings: what is not as it was, with causes; empty where all is equal.
        compared: how many tensors were.
        renamed: how many parameters have another name.
    """

    version: str
    before: str | None
    verdict: Verdict
    cells: tuple[Cell, ...] = ()
    findings: tuple[Finding, ...] = ()
    compared: int = 0
    renamed: int = 0

    @property
    def place(self) -> str | None:
        """Where the results change first."""
        return next((cell.place for cell in self.cells if not cell.verdict.passes), None)
