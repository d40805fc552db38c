"""A probe's numbers, and the gradients: which places are equal, which round otherwise, and which are different.

In: two fingerprints, and what rounding does to the reference. Out: `Judged`: findings at the first place whose ratio
is beyond its bound, and what could not be judged. Masks, ids and words have no rounding: they must be equal where both
sides have them in one form. A module that is computed otherwise may call others than the reference's does; every
answer of the model must be there.
"""

from theworld_validate.compare.computing import is_replaced, replaced_modules
from theworld_validate.compare.differences import aligned_section
from theworld_validate.compare.generated import judge_generation
from theworld_validate.compare.places import place_of
from theworld_validate.compare.rounding import Rounding, not_finite_in
from theworld_validate.compare.tally import Bounds, Judged, Tally, both_numbers, comparable, differ, pairs, take_answer
from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint, Section

_ATTENTIONS = "/arguments/attentions"


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
    tally = Tally(rounding, bounds, why_not, not_finite=not_finite_in(reference))
    prefix = f"{name}/"
    modules = reference.sections.get("modules", {})
    replaced = replaced_modules(modules, aligned_section("modules", modules, candidate.sections.get("modules", {})))
    for section in PROBE_SECTIONS:
        sides = reference.subset(section, prefix), candidate.subset(section, prefix)
        if all(sides):
            if section == "trace":
                _judge_trace(tally, *sides, replaced)
            elif section == "outputs":
                _judge_outputs(tally, *sides, replaced)
            else:
                judge_generation(tally, name, reference, candidate, rounding.truth if rounding else None)
        elif any(sides) or section != "generation":  # which is not asked of every probe
            whose = "both sides" if not any(sides) else "the candidate" if sides[0] else "the reference"
            tally.missing[f"{section} of {name} of {whose}"] = None
    return tally.done(name)


def judge_gradients(
    reference: Fingerprint, candidate: Fingerprint, rounding: Rounding | None, bounds: Bounds, why_not: str
) -> Judged:
    """Judge the gradient of every parameter; which parameters have one must be equal."""
    tally = Tally(rounding, bounds, why_not, not_finite=not_finite_in(reference))
    sides = [side.sections.get("gradients", {}) for side in (reference, candidate)]
    if not all(sides):
        tally.missing["gradients of both sides" if not any(sides) else "gradients of one side"] = None
    else:
        for location, ours, theirs in pairs("gradients", *sides):
            take_answer(tally, "gradients", location, ours, theirs)
        tally.beyond.reverse()  # they flow from the last parameter to the first
        tally.exact.reverse()
    return tally.done("gradients")


def _judge_trace(tally: Tally, reference: Section, candidate: Section, replaced: frozenset[str]) -> None:
    for location, ours, theirs in pairs("trace", reference, candidate):
        place = place_of("trace", location)
        if ours == theirs:
            tally.num_identical += 1
        elif place.port == "attention_mask":  # each implementation has masks of its own form
            in_one_form = ours is not None and theirs is not None and ours.get("tensor") == theirs.get("tensor")
            if in_one_form or not is_replaced(place.module, replaced):
                tally.exact += differ("trace", location, ours, theirs)
            else:
                tally.num_elsewhere += 1
        elif comparable(ours, theirs):
            if (ratio := tally.take_number("trace", location)) is not None and ratio.ratio > tally.bounds.ratio:
                tally.beyond.append(ratio)
        elif is_replaced(place.module, replaced) and (None in (ours, theirs) or both_numbers(ours, theirs)):
            tally.num_elsewhere += 1
        else:
            tally.exact += differ("trace", location, ours, theirs)


def _judge_outputs(tally: Tally, reference: Section, candidate: Section, replaced: frozenset[str]) -> None:
    for location, ours, theirs in pairs("outputs", reference, candidate):
        if location.endswith("/non_finite") and ours is not None:
            tally.missing[f"{location}: the reference's own outputs are not finite, and prove nothing"] = None
        elif _ATTENTIONS in location and None in (ours, theirs) and is_replaced("", replaced):
            tally.num_elsewhere += 1  # only eager attention can be asked for them
        else:
            take_answer(tally, "outputs", location, ours, theirs)
