"""What a probe's numbers say, as it is put together place by place.

In: places of two fingerprints, and what rounding does to the reference. Out: `Judged`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from theworld_validate.compare.differences import aligned_section, diff_section
from theworld_validate.compare.places import group_of
from theworld_validate.compare.rounding import Missing, Ratio, Rounding, is_number, is_training_loss, shape_of
from theworld_validate.documents.observations import Observation, Section
from theworld_validate.results import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Up to which ratio a number is another rounding; measured by `benchmarks/referee.py`, see docs/referee.md.

    Args:
        ratio: of what a forward gives, the loss of a training step too.
        gradient_ratio: of gradients.
    """

    ratio: float = 3.0
    gradient_ratio: float = 4.0

    def of(self, section: str, location: str) -> float:
        """The bound of a place."""
        is_gradient = section == "gradients" and not is_training_loss(section, location)
        return self.gradient_ratio if is_gradient else self.ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the numbers of one probe, or the gradients, say.

    Args:
        name: the probe's, or "gradients".
        findings: errors: the first place of the trace, and of each kind of answer, that is different.
        missing: why places could not be judged.
        worst: the greatest ratio.
        num_identical: places that are equal bit for bit.
        num_judged: places that were judged by their ratio.
        num_elsewhere: places that one side's code has, and the other's has not.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    worst: Ratio | None = None
    num_identical: int = 0
    num_judged: int = 0
    num_elsewhere: int = 0

    @property
    def is_identical(self) -> bool:
        """Whether all places are there, and equal bit for bit."""
        return not (self.findings or self.missing or self.num_judged or self.num_elsewhere)


@dataclass(slots=True)
class Tally:
    """A `Judged` in the making."""

    rounding: Rounding | None
    bounds: Bounds
    why_not: str
    not_finite: frozenset[str] = frozenset()
    exact: list[Finding] = field(default_factory=list)
    beyond: list[Ratio] = field(default_factory=list)
    missing: dict[str, None] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    num_identical: int = 0
    num_elsewhere: int = 0

    def take_number(self, section: str, location: str, *, beside: bool = False) -> Ratio | None:
        """Judge one place by its ratio; None where that cannot be had."""
        try:
            if self.rounding is None:
                raise Missing(self.why_not)
            ratio_of = self.rounding.ratio_without_truth if beside else self.rounding.ratio_at
            ratio = ratio_of(section, location)
        except Missing as why:
            self.missing[str(why)] = None
            return None
        self.ratios.append(ratio)
        return ratio

    def rounding_of(self, section: str, location: str, ratio: Ratio | None, value: float) -> float:
        """What rounding does to one element of a tensor, of that value.

        Raises:
            Missing: if there is no truth.
        """
        if self.rounding is None:
            raise Missing(self.why_not)
        return self.rounding.of_element(section, location, ratio, value)

    def done(self, name: str) -> Judged:
        in_order = [*self.exact, *_findings(self.beyond, self.bounds)]
        return Judged(
            name=name,
            findings=tuple(in_order),
            missing=tuple(self.missing),
            worst=max(self.ratios, key=lambda ratio: ratio.ratio, default=None),
            num_identical=self.num_identical,
            num_judged=len(self.ratios),
            num_elsewhere=self.num_elsewhere,
        )


def take_answer(
    tally: Tally,
    section: str,
    location: str,
    ours: Observation | None,
    theirs: Observation | None,
    *,
    beside: bool = False,
) -> None:
    """Judge one answer of the model: both sides must have it, in one shape.

    Args:
        beside: the truth has no such answer, as its prompt is another one by now.
    """
    if ours == theirs:
        tally.num_identical += 1
        if section != "generation" and ours is not None and ours.get("digest") in tally.not_finite:
            tally.missing[f"{location}: numbers that are not finite on both sides prove nothing"] = None
    elif comparable(ours, theirs):
        ratio = tally.take_number(section, location, beside=beside)
        if ratio is not None and ratio.ratio > tally.bounds.of(section, location):
            tally.beyond.append(ratio)
    else:
        tally.exact += differ(section, location, ours, theirs)


def pairs(
    section: str, reference: Section, candidate: Section
) -> Iterator[tuple[str, Observation | None, Observation | None]]:
    candidate = aligned_section(section, reference, candidate)
    for location in (*reference, *(place for place in candidate if place not in reference)):
        yield location, reference.get(location), candidate.get(location)


def both_numbers(ours: Observation | None, theirs: Observation | None) -> bool:
    return ours is not None and theirs is not None and is_number(ours) and is_number(theirs)


def comparable(ours: Observation | None, theirs: Observation | None) -> bool:
    """Whether two observations are floating-point tensors of one dtype and shape."""
    return both_numbers(ours, theirs) and shape_of(ours or {}) == shape_of(theirs or {})


def differ(section: str, location: str, ours: Observation | None, theirs: Observation | None) -> tuple[Finding, ...]:
    """Errors where two observations must be equal; what is only shown makes no two models different."""
    sides: list[Mapping[str, Observation]] = [{} if seen is None else {location: seen} for seen in (ours, theirs)]
    found = diff_section(section, dict(sides[0]), dict(sides[1]))
    return tuple(finding for finding in found if finding.severity == "error")


def _findings(beyond: list[Ratio], bounds: Bounds) -> Iterator[Finding]:
    """One finding for the trace, and one for each kind of answer: its first place."""
    groups: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in beyond:
        kind = "" if ratio.section == "trace" else group_of(ratio.section, ratio.location)
        groups.setdefault((ratio.section, kind), []).append(ratio)
    for (section, _), ratios in groups.items():
        first, bound = ratios[0], bounds.of(section, ratios[0].location)
        more = f" (first of {len(ratios):,} places)" if len(ratios) > 1 else ""
        yield Finding(
            code=f"{section}.ratio",
            location=first.location,
            message=f"{first.location} is {first.ratio:.3g} times as far from the truth as rounding puts the "
            f"reference, bound {bound:g}{more}",
            expected=bound,
            actual=round(first.ratio, 3),
            section=section,
            field="ratio",
        )
