"""What is said of a release: a verdict, one for how it loads, one for each probe, and the findings behind them.

In: nothing. Out: `Verdict`, `Cell` and `Judged`.
"""

from dataclasses import dataclass
from enum import StrEnum

from theworld_validate.compare.rounding import Ratio
from theworld_validate.results import Finding

LOADING, GRADIENTS = "loading", "gradients"  # cells that are no probe's


class Verdict(StrEnum):
    """How a release compares with the one before it; the worst of its parts, in this order."""

    FIRST = "first"  # compared with none: there is no release before it
    EQUAL = "equal"
    EQUIVALENT = "equivalent"
    UNDECIDABLE = "undecidable"
    CHANGED = "changed"
    UNSAFE = "unsafe"
    FAILED = "failed"

    @property
    def passes(self) -> bool:
        """Whether one may go from one release to the other."""
        return self in (Verdict.FIRST, Verdict.EQUAL, Verdict.EQUIVALENT)


def worst_of(verdicts: "list[Verdict]") -> Verdict:
    """The last of `Verdict` that is among some."""
    return max(verdicts, key=list(Verdict).index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One probe in one release, against the release before it; or `LOADING`, or `GRADIENTS`.

    Args:
        place: where it is not as it was first; None where it passes.
        why: what is said of that place where there are no numbers to say it.
        raises: whether `why` is what one of the two releases raises.
        worst: the greatest ratio, where numbers were judged.
        compared: how many tensors both releases gave.
        unanswered: why answers were not compared that neither release gives.
        findings: what is different; of what is undecidable, the first bits that differ.
    """

    probe: str
    verdict: Verdict
    place: str | None = None
    why: str | None = None
    raises: bool = False
    worst: Ratio | None = None
    compared: int = 0
    unanswered: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One release against the one before it.

    Args:
        loading: how it loads the checkpoint.
        cells: a verdict for each probe.
        findings: what is not as it was, with causes; empty where all is equal.
        renamed: how many parameters have another name.
    """

    version: str
    before: str | None
    loading: Cell
    cells: tuple[Cell, ...] = ()
    findings: tuple[Finding, ...] = ()
    renamed: int = 0

    @property
    def columns(self) -> tuple[Cell, ...]:
        """All cells: loading first."""
        return (self.loading, *self.cells)

    @property
    def verdict(self) -> Verdict:
        """The worst of its cells."""
        return worst_of([cell.verdict for cell in self.columns])

    @property
    def _decisive(self) -> Cell:
        """The first cell that has the worst verdict."""
        return next(cell for cell in self.columns if cell.verdict is self.verdict)

    @property
    def place(self) -> str | None:
        """Where the results change first, or cannot be judged first."""
        return None if self.verdict.passes else self._decisive.place

    @property
    def why(self) -> str | None:
        """What is said of that place."""
        return None if self.verdict.passes else self._decisive.why

    @property
    def worst(self) -> Ratio | None:
        """The greatest ratio of all probes."""
        ratios = [cell.worst for cell in self.cells if cell.worst is not None]
        return max(ratios, key=lambda ratio: ratio.ratio, default=None)

    @property
    def compared(self) -> int:
        """How many tensors were."""
        return sum(cell.compared for cell in self.cells)

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Why answers were not compared."""
        return tuple(line for cell in self.cells for line in cell.unanswered)
