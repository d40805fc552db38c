"""A probe's numbers, and the gradients: which places are equal, which round otherwise, and which are different.

In: two fingerprints, and what rounding does to the reference. Out: `Judged`: findings at the first place whose ratio
is beyond its bound, and what could not be judged. Masks, ids and words have no rounding: they must be equal where both
sides have them in one form. A module that is computed otherwise may call others than the reference's does; every
answer of the model must be there.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from theworld_validate.compare.computing import is_replaced, replaced_modules
from theworld_validate.compare.differences import aligned_section, diff_section
from theworld_validate.compare.places import group_of, place_of
from theworld_validate.compare.rounding import Missing, Ratio, Rounding, is_number, shape_of
from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.results import Finding

_TOKENS = ("greedy", "static", "sampled", "beams")  # ids that a model chose: a tie may fall otherwise
_ATTENTIONS = "/arguments/attentions"
_STEP = re.compile(r"(?P<way>greedy|static)_logits\[(?P<step>\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Up to which ratio a number is another rounding; measured by `benchmarks/referee.py`, see docs/referee.md.

    Args:
        ratio: of what a forward gives.
        gradient_ratio: of gradients.
    """

    ratio: float = 3.0
    gradient_ratio: float = 4.0

    def of(self, section: str) -> float:
        """The bound of a section."""
        return self.gradient_ratio if section == "gradients" else self.ratio


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
class _Tally:
    """A `Judged` in the making."""

    rounding: Rounding | None
    bounds: Bounds
    why_not: str
    exact: list[Finding] = field(default_factory=list)
    beyond: list[Ratio] = field(default_factory=list)
    missing: dict[str, None] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    num_identical: int = 0
    num_elsewhere: int = 0

    def take_number(self, section: str, location: str) -> Ratio | None:
        """Judge one place by its ratio; None where that cannot be had."""
        try:
            if self.rounding is None:
                raise Missing(self.why_not)
            ratio = self.rounding.ratio_at(section, location)
        except Missing as why:
            self.missing[str(why)] = None
            return None
        self.ratios.append(ratio)
        return ratio

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


def judge_probe(
    name: str,
    reference: Fingerprint,
    candidate: Fingerprint,
    rounding: Rounding | None,
    bounds: Bounds,
    why_not: str,
) -> Judged:
    """Judge trace, outputs and generation of one probe.

    Args:
        rounding: None where there is no truth to judge by; equal bits need none.
        why_not: what to say of places that then cannot be judged.
    """
    tally = _Tally(rounding, bounds, why_not)
    prefix = f"{name}/"
    modules = reference.sections.get("modules", {})
    replaced = replaced_modules(modules, aligned_section("modules", modules, candidate.sections.get("modules", {})))
    for section, judge_section in _SECTIONS.items():
        sides = reference.subset(section, prefix), candidate.subset(section, prefix)
        if all(sides):
            judge_section(tally, *sides, replaced)
        elif any(sides) or section != "generation":  # which is not asked of every probe
            whose = "both sides" if not any(sides) else "the candidate" if sides[0] else "the reference"
            tally.missing[f"{section} of {name} of {whose}"] = None
    return tally.done(name)


def judge_gradients(
    reference: Fingerprint, candidate: Fingerprint, rounding: Rounding | None, bounds: Bounds, why_not: str
) -> Judged:
    """Judge the gradient of every parameter; which parameters have one must be equal."""
    tally = _Tally(rounding, bounds, why_not)
    sides = [side.sections.get("gradients", {}) for side in (reference, candidate)]
    if not all(sides):
        tally.missing["gradients of both sides" if not any(sides) else "gradients of one side"] = None
    else:
        for location, ours, theirs in _pairs("gradients", *sides):
            _take_answer(tally, "gradients", location, ours, theirs)
        tally.beyond.reverse()  # they flow from the last parameter to the first
        tally.exact.reverse()
    return tally.done("gradients")


def _judge_trace(tally: _Tally, reference: Section, candidate: Section, replaced: frozenset[str]) -> None:
    for location, ours, theirs in _pairs("trace", reference, candidate):
        place = place_of("trace", location)
        if ours == theirs:
            tally.num_identical += 1
        elif place.port == "attention_mask":  # each implementation has masks of its own form
            in_one_form = ours is not None and theirs is not None and ours.get("tensor") == theirs.get("tensor")
            if in_one_form or not is_replaced(place.module, replaced):
                tally.exact += _differ("trace", location, ours, theirs)
            else:
                tally.num_elsewhere += 1
        elif _comparable(ours, theirs):
            if (ratio := tally.take_number("trace", location)) is not None and ratio.ratio > tally.bounds.ratio:
                tally.beyond.append(ratio)
        elif is_replaced(place.module, replaced) and (None in (ours, theirs) or _both_numbers(ours, theirs)):
            tally.num_elsewhere += 1
        else:
            tally.exact += _differ("trace", location, ours, theirs)


def _judge_outputs(tally: _Tally, reference: Section, candidate: Section, replaced: frozenset[str]) -> None:
    for location, ours, theirs in _pairs("outputs", reference, candidate):
        if location.endswith("/non_finite") and ours is not None:
            tally.missing[f"{location}: the reference's own outputs are not finite, and prove nothing"] = None
        elif _ATTENTIONS in location and None in (ours, theirs) and is_replaced("", replaced):
            tally.num_elsewhere += 1  # only eager attention can be asked for them
        else:
            _take_answer(tally, "outputs", location, ours, theirs)


def _judge_generation(tally: _Tally, reference: Section, candidate: Section, _replaced: frozenset[str]) -> None:
    """Tokens that differ are another choice at a tie only where logits before it were rounded otherwise."""
    tied: dict[str, bool] = {}  # way of generating -> whether its next token may be another one
    after: set[str] = set()  # ways whose prompts have parted
    for location, ours, theirs in sorted(_pairs("generation", reference, candidate), key=_tokens_last):
        word = location.partition("/")[2]
        step = _STEP.fullmatch(word)
        is_other = reference.get(_tokens_of(location, word)) != candidate.get(_tokens_of(location, word))
        if step is not None and is_other and None not in (ours, theirs):
            way = step["way"]
            if way in after:
                continue
            if ours == theirs:
                tally.num_identical += 1
                tied[way] = False
                continue
            ratio = tally.take_number("generation", location)
            if ratio is not None and ratio.ratio > tally.bounds.ratio:
                if tied.get(way):  # after another token it would be another prompt's; nothing says that it is
                    tally.ratios.remove(ratio)
                    tally.missing[f"{location}: whether tokens had parted before it"] = None
                else:
                    tally.beyond.append(ratio)
                after.add(way)
            tied[way] = True
        elif word in _TOKENS and is_other and None not in (ours, theirs):
            if after.union(way for way, is_tied in tied.items() if is_tied) or tally.ratios:
                tally.missing[f"{location}: tokens part, and whether at a tie is not known"] = None
            else:
                tally.exact += _differ("generation", location, ours, theirs)
        elif word.endswith("_scores") and is_other:
            continue  # of other tokens
        else:
            _take_answer(tally, "generation", location, ours, theirs)


def _tokens_last(entry: tuple[str, Observation | None, Observation | None]) -> bool:
    return entry[0].partition("/")[2] in _TOKENS


def _tokens_of(location: str, word: str) -> str:
    """Where the tokens are that belong to logits or scores of a way of generating."""
    return f"{location.partition('/')[0]}/{word.partition('_')[0]}"


_SECTIONS: dict[str, Callable[[_Tally, Section, Section, frozenset[str]], None]] = {
    "trace": _judge_trace,
    "outputs": _judge_outputs,
    "generation": _judge_generation,
}


def _take_answer(
    tally: _Tally, section: str, location: str, ours: Observation | None, theirs: Observation | None
) -> None:
    """Judge one answer of the model: both sides must have it, in one shape."""
    if ours == theirs:
        tally.num_identical += 1
    elif _comparable(ours, theirs):
        ratio = tally.take_number(section, location)
        if ratio is not None and ratio.ratio > tally.bounds.of(section):
            tally.beyond.append(ratio)
    else:
        tally.exact += _differ(section, location, ours, theirs)


def _pairs(
    section: str, reference: Section, candidate: Section
) -> Iterator[tuple[str, Observation | None, Observation | None]]:
    candidate = aligned_section(section, reference, candidate)
    for location in (*reference, *(place for place in candidate if place not in reference)):
        yield location, reference.get(location), candidate.get(location)


def _both_numbers(ours: Observation | None, theirs: Observation | None) -> bool:
    return ours is not None and theirs is not None and is_number(ours) and is_number(theirs)


def _comparable(ours: Observation | None, theirs: Observation | None) -> bool:
    """Whether two observations are floating-point tensors of one dtype and shape."""
    return _both_numbers(ours, theirs) and shape_of(ours or {}) == shape_of(theirs or {})


def _differ(section: str, location: str, ours: Observation | None, theirs: Observation | None) -> tuple[Finding, ...]:
    sides: list[Mapping[str, Observation]] = [{} if seen is None else {location: seen} for seen in (ours, theirs)]
    return diff_section(section, dict(sides[0]), dict(sides[1]))


def _findings(beyond: list[Ratio], bounds: Bounds) -> Iterator[Finding]:
    """One finding for the trace, and one for each kind of answer: its first place."""
    groups: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in beyond:
        kind = "" if ratio.section == "trace" else group_of(ratio.section, ratio.location)
        groups.setdefault((ratio.section, kind), []).append(ratio)
    for (section, _), ratios in groups.items():
        first, bound = ratios[0], bounds.of(section)
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
