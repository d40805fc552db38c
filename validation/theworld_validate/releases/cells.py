"""One probe in two releases, or the gradients: what raises, what only one of them answers, what is equal, what is not.

In: two fingerprints, the later release's under the earlier one's names, and the truth. Out: a `Cell`. An answer is what
counts: a module that computes otherwise inside of equal answers is another way of computing, and no other result. An
answer that neither release gives proves nothing, and is said.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.rounding import not_finite_in
from theworld_validate.documents.observations import PROBE_SECTIONS, Failure, Fingerprint, Section
from theworld_validate.fingerprint.finite import NON_FINITE
from theworld_validate.releases.judged import GRADIENTS, Cell, Verdict
from theworld_validate.releases.numbers import can_be_rounded, judge_numbers
from theworld_validate.releases.seen import Truth
from theworld_validate.results import Finding

_ANSWERS = ("outputs", "generation")
_MASK = "(attention_mask)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """One section of what a probe, or the gradients, gave on both sides."""

    section: str
    ours: Section
    theirs: Section

    @property
    def both(self) -> list[str]:
        """Places that both have."""
        return [place for place in self.ours if place in self.theirs]

    @property
    def one_sided(self) -> list[str]:
        """Places that only one has."""
        return [place for place in {**self.ours, **self.theirs} if (place in self.ours) != (place in self.theirs)]

    @property
    def differing(self) -> list[str]:
        """Places that both have, and that are not equal."""
        return [place for place in self.both if self.ours[place] != self.theirs[place]]

    @property
    def num_tensors(self) -> int:
        """Of how many places both have the bits: words, and what has no bits, prove nothing."""
        return sum("digest" in self.ours[place] and "digest" in self.theirs[place] for place in self.both)


def judge_cell(reference: Fingerprint, candidate: Fingerprint, truth: Truth, name: str) -> Cell:
    """Judge one probe, or `GRADIENTS`."""
    answers = _answers_of(reference, candidate, name)
    compared = sum(part.num_tensors for part in answers)
    ours, theirs = (_failures(side, name) for side in (reference, candidate))
    unanswered = tuple(_unanswered(answers, ours, theirs, name))
    equal = Cell(probe=name, verdict=Verdict.EQUAL, compared=compared, unanswered=unanswered)
    if (cell := _new_or_mended(reference, candidate, ours, theirs, name)) is not None:
        return replace(equal, verdict=Verdict.CHANGED, raises=True, place=cell[0], why=cell[1])
    for part in answers:
        if part.one_sided:
            findings = diff_section(part.section, part.ours, part.theirs)
            alone = tuple(f for f in findings if f.field in ("missing", "extra"))
            return replace(equal, verdict=Verdict.CHANGED, place=part.one_sided[0], findings=alone)
    if not compared:
        why = "nothing was compared" + (f": {unanswered[0]}" if unanswered else "")
        return replace(equal, verdict=Verdict.UNDECIDABLE, place=name, why=why)
    not_finite = next((p for part in answers for p in part.both if p.endswith(f"/{NON_FINITE}")), None)
    if not_finite is None:
        held = not_finite_in(reference)
        places = ((place, part.ours[place]) for part in answers for place in part.both)
        not_finite = next((place for place, own in places if own.get("digest") in held), None)
    if not any(part.differing for part in answers):
        if not_finite is not None:
            why = "numbers that are not finite in both releases prove nothing"
            return replace(equal, verdict=Verdict.UNDECIDABLE, place=not_finite, why=why)
        return equal
    return _by_numbers(reference, candidate, truth, answers, equal)


def needs_truth(reference: Fingerprint, candidate: Fingerprint, name: str) -> bool:
    """Whether anything that both releases answer may be rounded otherwise."""
    return any(
        can_be_rounded(part.ours[place], part.theirs[place])
        for part in _answers_of(reference, candidate, name)
        for place in part.differing
    )


def _by_numbers(
    reference: Fingerprint,
    candidate: Fingerprint,
    truth: Truth,
    answers: list[_Answers],
    equal: Cell,
) -> Cell:
    name = equal.probe
    judged = judge_numbers(reference, candidate, truth, name)
    if judged.findings:
        order = _call_order(reference, candidate, name)
        findings = tuple(sorted(judged.findings, key=lambda finding: order.get(finding.location, len(order))))
        return replace(
            equal, verdict=Verdict.CHANGED, place=findings[0].location, worst=judged.worst, findings=findings
        )
    if judged.missing:
        place, found = _first_difference(reference, candidate, name, answers)
        more = f" (first of {len(judged.missing):,})" if len(judged.missing) > 1 else ""
        why = f"evidence is missing: {judged.missing[0]}{more}"
        return replace(equal, verdict=Verdict.UNDECIDABLE, place=place, why=why, worst=judged.worst, findings=found)
    return replace(equal, verdict=Verdict.EQUIVALENT, worst=judged.worst)


def _answers_of(reference: Fingerprint, candidate: Fingerprint, name: str) -> list[_Answers]:
    if name == GRADIENTS:
        return [_Answers(section=name, ours=reference.subset(name), theirs=candidate.subset(name))]
    prefix = f"{name}/"
    return [
        _Answers(section=section, ours=reference.subset(section, prefix), theirs=candidate.subset(section, prefix))
        for section in _ANSWERS
    ]


def _failures(fingerprint: Fingerprint, name: str) -> list[Failure]:
    if name == GRADIENTS:
        return list(fingerprint.failures_of(GRADIENTS))
    return [failure for failure in fingerprint.failures if failure.probe == name]


def _unanswered(answers: list[_Answers], ours: list[Failure], theirs: list[Failure], name: str) -> Iterator[str]:
    """A line for each answer that both releases fail to give, or whose bits cannot be read."""
    for part in answers:
        own, other = ([f for f in side if f.section == part.section] for side in (ours, theirs))
        for failure in own[: min(len(own), len(other))]:
            yield f"{name}: {part.section} raises {failure.error} in both releases"
        for place in part.both:
            if "unreadable" in part.ours[place] and "unreadable" in part.theirs[place]:
                yield f"{place}: {part.ours[place]['unreadable']}"


def _new_or_mended(
    reference: Fingerprint, candidate: Fingerprint, ours: list[Failure], theirs: list[Failure], name: str
) -> tuple[str, str] | None:
    """Where something raises in one release alone, and what; None where nothing does."""
    if (new := _more(theirs, ours)) is not None:
        return _first_missing(reference, candidate, new, name), f"raises {new.error}"
    if (mended := _more(ours, theirs)) is not None:
        return _first_missing(candidate, reference, mended, name), f"no longer raises {mended.error}"
    return None


def _more(these: list[Failure], those: list[Failure]) -> Failure | None:
    """Of a section in which one side raises more often than the other, what the other does not raise."""
    for section in (*PROBE_SECTIONS, GRADIENTS):
        own, other = ([failure for failure in side if failure.section == section] for side in (these, those))
        if len(own) > len(other):
            known = {failure.error for failure in other}
            return next((failure for failure in own if failure.error not in known), own[0])
    return None


def _first_missing(whole: Fingerprint, broken: Fingerprint, failure: Failure, name: str) -> str:
    """The first answer that is not there because something raised; one of a kind that is not there at all."""
    prefix = "" if name == GRADIENTS else f"{name}/"
    theirs = broken.subset(failure.section, prefix)
    kinds = {_kind_of(place, prefix) for place in theirs}
    missing = [place for place in whole.subset(failure.section, prefix) if place not in theirs]
    whole_kinds = (place for place in missing if _kind_of(place, prefix) not in kinds)
    return next(whole_kinds, missing[0] if missing else f"{name}/{failure.section}")


def _kind_of(place: str, prefix: str) -> str:
    """What an answer is called, less which of several it is: "cache" of "cache[0].keys"."""
    return place.removeprefix(prefix).partition("[")[0]


def _call_order(reference: Fingerprint, candidate: Fingerprint, name: str) -> dict[str, int]:
    """Each place -> its position: trace, outputs, generation; gradients from the last to the first."""
    if name == GRADIENTS:
        return {place: -i for i, place in enumerate(reference.sections.get(GRADIENTS, {}))}
    prefix = f"{name}/"
    places = [p for section in PROBE_SECTIONS for side in (reference, candidate) for p in side.subset(section, prefix)]
    return {place: i for i, place in enumerate(dict.fromkeys(places))}


def _first_difference(
    reference: Fingerprint, candidate: Fingerprint, name: str, answers: list[_Answers]
) -> tuple[str, tuple[Finding, ...]]:
    """The first place with other bits, in the trace where it has one; and what differs there."""
    parts = [(part.section, part.ours, part.theirs, part.differing) for part in answers]
    if name != GRADIENTS:
        ours, theirs = (side.subset("trace", f"{name}/") for side in (reference, candidate))
        inside = [p for p in ours if p in theirs and _is_other(ours, theirs, p)]
        parts.insert(0, ("trace", ours, theirs, inside))
    section, ours, theirs, (place, *_) = next(part for part in parts if part[3])
    return place, diff_section(section, {place: ours[place]}, {place: theirs[place]})


def _is_other(ours: Section, theirs: Section, place: str) -> bool:
    """Whether a place of a trace differs, and not only in the form of a mask, such as None for a mask of ones."""
    is_other = [ours[place].get(field) != theirs[place].get(field) for field in ("tensor", "digest")]
    return any(is_other) and not (_MASK in place and is_other[0])
