"""The referee: are two models identical, equivalent, different, or can nobody say?

In: fingerprints of a reference and a candidate, made anywhere, and of the truth: the reference in a wider dtype. Out:
a `Judgement`. Identical is bit for bit. Otherwise what a model *is* must still be equal bit for bit (weights, buffers,
files, configuration); what only says how it is computed is listed; and each number is held against the truth: a
candidate that is as far from it as the reference is rounds otherwise, one that is several times as far is different.
What the evidence does not reach is undecidable, and no pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from theworld_validate.compare.computing import is_of_computing
from theworld_validate.compare.differences import aligned_section, diff_section, differing_places
from theworld_validate.compare.numbers import judge_gradients, judge_probe
from theworld_validate.compare.rounding import Ratio, Rounding, is_wider
from theworld_validate.compare.tally import Bounds, Judged
from theworld_validate.documents.fingerprint import FingerprintFile
from theworld_validate.documents.observations import STATE_SECTIONS, Fingerprint, probe_of
from theworld_validate.results import Finding, Plan

__all__ = ["BOUNDS", "Bounds", "Judgement", "Verdict", "judge", "truth_of_another"]

BOUNDS = Bounds()
_EXACT = ("files", *STATE_SECTIONS)
_MAY_BE_EMPTY = ("buffers", "globals", "generation")


class Verdict(StrEnum):
    """What is said of two models."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    DIFFERENT = "different"
    UNDECIDABLE = "undecidable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, and what it rests on.

    Args:
        parts: each probe, and the gradients: what its numbers say.
        exact: findings of what must be equal bit for bit: the model is another one.
        computing: findings that only say how it is computed, as warnings.
        missing: which evidence is missing; empty where everything could be judged.
        bounds: what the numbers were held against.
    """

    parts: tuple[Judged, ...]
    exact: tuple[Finding, ...]
    computing: tuple[Finding, ...]
    missing: tuple[str, ...]
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def verdict(self) -> Verdict:
        """A difference that was seen is one, whatever else is missing."""
        if self.exact or any(part.findings for part in self.parts):
            return Verdict.DIFFERENT
        if self.missing or any(part.missing for part in self.parts):
            return Verdict.UNDECIDABLE
        if not any(part.num_identical or part.num_judged for part in self.parts):
            return Verdict.UNDECIDABLE
        is_identical = not self.computing and all(part.is_identical for part in self.parts)
        return Verdict.IDENTICAL if is_identical else Verdict.EQUIVALENT

    @property
    def worst(self) -> Ratio | None:
        """The greatest ratio, relative to its bound, and its place; None where no number had to be judged."""
        ratios = [part.worst for part in self.parts if part.worst is not None]
        return max(ratios, key=lambda ratio: ratio.ratio / self.bounds.of(ratio.section, ratio.location), default=None)

    @property
    def first(self) -> Finding | None:
        """Where the two part: what they are, else the first place whose ratio jumps; None unless they are different."""
        findings = [*self.exact, *(finding for part in self.parts for finding in part.findings)]
        return findings[0] if findings else None

    @property
    def reason(self) -> str:
        """The verdict's ground, in one line."""
        verdict, worst, first = self.verdict, self.worst, self.first
        if verdict is Verdict.DIFFERENT:
            assert first is not None
            return first.message
        if verdict is Verdict.UNDECIDABLE:
            lacking = [*self.missing, *(line for part in self.parts for line in part.missing)]
            more = f" (first of {len(lacking):,})" if len(lacking) > 1 else ""
            return f"evidence is missing: {lacking[0]}{more}" if lacking else "nothing was compared"
        if verdict is Verdict.IDENTICAL:
            return "equal bit for bit"
        ways = f"{len(self.computing)} differences of computing; " if self.computing else ""
        if worst is None:
            return f"{ways}every number is equal bit for bit"
        bound = self.bounds.of(worst.section, worst.location)
        return f"{ways}the worst place is {worst.ratio:.2f} times its rounding, bound {bound:g}: {worst.location}"


def judge(
    reference: Fingerprint | FingerprintFile,
    candidate: Fingerprint | FingerprintFile,
    truth: Fingerprint | FingerprintFile | None = None,
    *,
    control: Fingerprint | None = None,
    bounds: Bounds = BOUNDS,
    plan: Plan | None = None,
) -> Judgement:
    """Judge two fingerprints; no model is near.

    Args:
        reference, candidate: with sketches, unless they are equal bit for bit.
        truth: the reference in a wider dtype, with sketches: float32 for bfloat16, float64 for float32.
        control: the reference's second run; how far it is from the first counts as rounding.
        plan: what both must hold; by default what either file says that it was asked, or what either has.
    """
    asked = plan or _plan_of(reference, candidate)
    ours, theirs = _fingerprint_of(reference), _fingerprint_of(candidate)
    true = None if truth is None else _fingerprint_of(truth)
    missing = list(_missing(ours, theirs, asked))
    exact, computing = _state(ours, theirs, asked)
    exact = [*_raised(ours, theirs), *exact]
    rounding, why_not = None, "there is no truth; give the reference in a wider dtype, with sketches"
    files = isinstance(reference, FingerprintFile) and isinstance(truth, FingerprintFile)
    if files and (of_another := truth_of_another(reference, truth)) is not None:
        why_not = f"the truth is of another {of_another} than the reference; take it anew"
    elif true is not None and is_wider(true, ours):
        rounding = Rounding(ours, theirs, true, control)
    elif true is not None:
        why_not = "the truth rounds as the reference does; take it in a wider dtype, with sketches"
    parts = [judge_probe(name, ours, theirs, rounding, bounds, why_not) for name in asked.probes]
    if "gradients" in asked.sections:
        parts.append(judge_gradients(ours, theirs, rounding, bounds, why_not))
    return Judgement(
        parts=tuple(parts), exact=tuple(exact), computing=tuple(computing), missing=tuple(missing), bounds=bounds
    )


def truth_of_another(reference: FingerprintFile, truth: FingerprintFile) -> str | None:
    """In what a truth is of something else than the reference; None where it is of the same.

    A truth of another release is none: what that changed would count as the reference's rounding.
    """
    fields = ["target", "checkpoint_digest", "seed", "attn"]
    if reference.subject.checkpoint_digest is None:
        fields.append("checkpoint")
    for name in fields:
        if getattr(reference.subject, name) != getattr(truth.subject, name):
            return name.replace("_", " ")
    for name in ("torch", "transformers"):
        if reference.environment.packages.get(name) != truth.environment.packages.get(name):
            return f"release of {name}"
    return None if set(reference.plan.probes) == set(truth.plan.probes) else "set of probes"


def _fingerprint_of(seen: Fingerprint | FingerprintFile) -> Fingerprint:
    return seen.fingerprint if isinstance(seen, FingerprintFile) else seen


def _plan_of(*sides: Fingerprint | FingerprintFile) -> Plan:
    sections: dict[str, None] = {}
    probes: dict[str, None] = {}
    for side in sides:
        if isinstance(side, FingerprintFile):
            sections |= dict.fromkeys(side.plan.sections)
            probes |= dict.fromkeys(side.plan.probes)
        else:
            sections |= dict.fromkeys(side.sections)
        seen = _fingerprint_of(side).sections
        probes |= dict.fromkeys(probe_of(place) for name in ("trace", "outputs") for place in seen.get(name, {}))
    return Plan(sections=tuple(sections), probes=tuple(probes))


def _missing(ours: Fingerprint, theirs: Fingerprint, plan: Plan) -> Iterator[str]:
    for section in plan.sections:
        for who, side in (("the reference", ours), ("the candidate", theirs)):
            if not side.sections.get(section) and not (section in _MAY_BE_EMPTY and section in side.sections):
                yield f"{section} of {who}"
    for failure in ours.failures:
        yield f"{failure.section} of the reference, which raises {failure.error}"


def _raised(ours: Fingerprint, theirs: Fingerprint) -> Iterator[Finding]:
    known = {(failure.section, failure.probe) for failure in ours.failures}
    for failure in theirs.failures:
        if (failure.section, failure.probe) not in known:
            yield Finding(
                code=f"{failure.section}.raised",
                location=failure.probe or failure.section,
                message=f"{failure.probe or failure.section}: the candidate raises {failure.error}",
                actual=failure.place,
                section=failure.section,
                field="raised",
            )


def _state(ours: Fingerprint, theirs: Fingerprint, plan: Plan) -> tuple[list[Finding], list[Finding]]:
    """What must be equal bit for bit, and is not; and what only says how it is computed."""
    exact: list[Finding] = []
    computing: list[Finding] = []
    modules = [side.sections.get("modules", {}) for side in (ours, theirs)]
    modules[1] = aligned_section("modules", modules[0], modules[1])
    for section in plan.sections:
        sides = [side.sections.get(section, {}) for side in (ours, theirs)]
        if not any(sides):
            continue
        if section == "round_trip" and all(sides):
            exact += _not_kept(theirs, ours)
        if section not in _EXACT:
            continue
        places = differing_places(section, sides[0], sides[1])
        for finding in diff_section(section, sides[0], sides[1]):
            if is_of_computing(finding, places.get(finding.key, (finding.location,)), modules[0], modules[1]):
                computing.append(_as_warning(finding))
            elif finding.severity == "error":
                exact.append(finding)
    return exact, computing


def _not_kept(theirs: Fingerprint, ours: Fingerprint) -> Iterator[Finding]:
    """Weights and buffers that do not come back from saving and loading as they were, though the reference's do."""
    for section in ("parameters", "buffers"):
        for location, seen in theirs.sections.get(section, {}).items():
            place = f"{section}/{location}"
            kept = [side.sections["round_trip"].get(place, {}).get("digest") for side in (theirs, ours)]
            if kept[0] is None and kept[1] is not None:
                yield from diff_section("round_trip", {place: {"digest": seen["digest"]}}, {})
            if None in kept or kept[0] == seen.get("digest"):
                continue
            if kept[1] == ours.sections.get(section, {}).get(location, {}).get("digest"):
                yield from diff_section("round_trip", {place: {"digest": seen["digest"]}}, {place: {"digest": kept[0]}})


def _as_warning(finding: Finding) -> Finding:
    return replace(finding, severity="warning")
