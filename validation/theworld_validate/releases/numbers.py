"""The one place where two releases' numbers are judged: equal, rounding, or another result.

In: two fingerprint documents, the candidate's under the reference's names. Out: for one probe, how they compare.
Bits alone are compared here: where they differ, the result is another one.
"""

from dataclasses import dataclass

from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint, Section

_MASK = "(attention_mask)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How one probe's numbers compare.

    Args:
        compared: how many tensors were on both sides.
        place: where they differ first, in the reference's call order; None where none does.
        is_rounding: whether all that differs is within the bounds of rounding.
    """

    compared: int
    place: str | None
    is_rounding: bool = False


def compare_probe(reference: Fingerprint, candidate: Fingerprint, probe: str) -> Numbers:
    """Compare what one probe gave in two releases.

    An answer that differs is what counts: a module that computes otherwise inside of equal answers is another way
    of computing, and is not another result.
    """
    ours, theirs = (
        {name: side.subset(name, f"{probe}/") for name in PROBE_SECTIONS} for side in (reference, candidate)
    )
    answers = [(ours[name], theirs[name]) for name in ("outputs", "generation")]
    compared = sum(len(_both(*pair)) for pair in answers)
    differing = [place for pair in answers for place in _both(*pair) if _differ(pair, place)]
    if not differing:
        return Numbers(compared=compared, place=None)
    trace = (ours["trace"], theirs["trace"])
    inside = [place for place in _both(*trace) if _differ(trace, place)]
    return Numbers(compared=compared, place=next(iter(_without_other_forms(inside, trace)), differing[0]))


def _without_other_forms(places: list[str], trace: tuple[Section, Section]) -> list[str]:
    """Places of a trace less masks that have another form alone, such as None for a mask of ones."""
    ours, theirs = trace
    return [p for p in places if _MASK not in p or ours[p].get("tensor") == theirs[p].get("tensor")]


def _both(ours: Section, theirs: Section) -> list[str]:
    return [location for location in ours if location in theirs]


def _differ(pair: tuple[Section, Section], place: str) -> bool:
    ours, theirs = pair[0][place], pair[1][place]
    return any(ours.get(field) != theirs.get(field) for field in ("tensor", "digest"))
