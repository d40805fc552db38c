"""Answers that are not equal in their bits: is it rounding? The referee's rule, for one probe in two releases.

In: two fingerprints, the later release's under the earlier one's names, and the truth: what the earlier release gives
in a wider dtype. Out: what the referee says. Of a trace only places are judged that both releases have in one form: a
module that is called otherwise is another way of computing, and what comes of it is seen in what both have.
"""

from dataclasses import replace

from theworld_validate.compare.judgement import BOUNDS
from theworld_validate.compare.numbers import judge_gradients, judge_probe
from theworld_validate.compare.rounding import Rounding, is_number, is_wider, shape_of
from theworld_validate.compare.tally import Judged
from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.releases.judged import GRADIENTS
from theworld_validate.releases.seen import Truth


def judge_numbers(reference: Fingerprint, candidate: Fingerprint, truth: Truth, name: str) -> Judged:
    """Judge what one probe gave in two releases, or the gradients."""
    true, rounding, why_not = truth.fingerprint, None, truth.why_not
    if true is not None and is_wider(true, reference):
        rounding = Rounding(reference, candidate, true, None)
    elif true is not None:
        why_not = "the truth rounds as the release does"
    if name == GRADIENTS:
        return judge_gradients(reference, candidate, rounding, BOUNDS, why_not)
    ours, theirs = _in_one_form(reference, candidate, f"{name}/")
    return judge_probe(name, ours, theirs, rounding, BOUNDS, why_not)


def can_be_rounded(ours: Observation, theirs: Observation) -> bool:
    """Whether two observations are floating-point tensors of one dtype and shape, with other bits."""
    return ours != theirs and is_number(ours) and shape_of(ours) == shape_of(theirs)


def _in_one_form(reference: Fingerprint, candidate: Fingerprint, prefix: str) -> tuple[Fingerprint, Fingerprint]:
    sides = [side.subset("trace", prefix) for side in (reference, candidate)]
    both = [p for p in sides[0] if p in sides[1] and sides[0][p].get("tensor") == sides[1][p].get("tensor")]
    return _with_trace(reference, sides[0], both), _with_trace(candidate, sides[1], both)


def _with_trace(whole: Fingerprint, trace: Section, places: list[str]) -> Fingerprint:
    return replace(whole, sections={**whole.sections, "trace": {place: trace[place] for place in places}})
