"""Documented counts against a ledger: equal, explained or different; the explanation is computed.

In: a documented figure, and the ledger's parts. Out: a verdict, and the parts that the figure is the sum of.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentedCount:
    """A figure that the first implementation notes publish.

    Args:
        label: what the notes call it.
        parts: the ledger's parts that the label stands for.
        count: the figure.
        line: of the notes.
    """

    label: str
    parts: tuple[str, ...]
    count: int
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a figure turned out to be.

    Args:
        verdict: "equal", "explained" (the sum of other parts than its label says) or "different".
        measured: the sum of the parts that the label stands for; None where the model has none of them.
        parts: the parts that the figure is the sum of; empty where there are none.
    """

    verdict: str
    measured: int | None
    parts: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The explanation on one line."""
        return " + ".join(self.parts)


def explain(documented: DocumentedCount, ledger: Mapping[str, int]) -> Explanation:
    """Compare one figure with a ledger: part -> parameters, no parameter in two parts."""
    present = [part for part in documented.parts if part in ledger]
    measured = sum(ledger[part] for part in present) if present else None
    if measured == documented.count and len(present) == len(documented.parts):
        return Explanation(verdict="equal", measured=measured, parts=documented.parts)
    found = find_parts(documented.count, ledger)
    verdict = "explained" if found else "different"
    return Explanation(verdict=verdict, measured=measured, parts=found or ())


def find_parts(count: int, ledger: Mapping[str, int]) -> tuple[str, ...] | None:
    """The fewest parts of a ledger that sum to a figure exactly; None if no parts do."""
    for num in range(1, len(ledger) + 1):
        for parts in _combinations(ledger, num):
            if sum(ledger[part] for part in parts) == count:
                return parts
    return None


def _combinations(ledger: Mapping[str, int], num: int) -> Iterable[tuple[str, ...]]:
    return itertools.combinations(ledger, num)
