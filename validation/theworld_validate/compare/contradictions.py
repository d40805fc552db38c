"""Sentences of one report that cannot both be true.

In: explained findings. Out: pairs of sentences. The self-test allows none.
"""

from collections.abc import Iterator, Sequence

from theworld_validate.compare.advice import EQUAL_UP_TO_HERE
from theworld_validate.compare.causes import Cause, classify, section_of
from theworld_validate.compare.places import Place, is_above, place_of
from theworld_validate.documents.observations import STATE_SECTIONS
from theworld_validate.results import Finding


def contradictions(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Pairs of sentences that contradict each other, each as one line; none in a sound report."""
    return tuple(dict.fromkeys([*_of_the_chain(findings), *_of_the_words(findings)]))


def _of_the_chain(findings: Sequence[Finding]) -> Iterator[str]:
    roots = {finding.key for finding in findings if finding.explained_by is None}
    for finding in findings:
        if finding.explained_by is None:
            continue
        if finding.cause is not None or finding.remedy is not None:
            yield f"{finding.key} follows from {finding.explained_by}, and has a cause of its own: {finding.cause}"
        if finding.explained_by not in roots:
            yield f"{finding.key} follows from {finding.explained_by}, which is no root of this report"


def _of_the_words(findings: Sequence[Finding]) -> Iterator[str]:
    for claim in findings:
        if claim.explained_by is not None or claim.cause is None:
            continue
        for other in findings:
            if other is not claim and _denies(claim, other):
                yield f"{claim.location}: {claim.cause} | {other.message}"


def _denies(claim: Finding, other: Finding) -> bool:
    """Whether the message of `other` cannot be true where the cause of `claim` is."""
    assert claim.cause is not None
    cause, section = classify(claim), section_of(other)
    one, two = _place(claim), _place(other)
    if EQUAL_UP_TO_HERE in claim.cause:
        earlier_state = section in STATE_SECTIONS
        return earlier_state or (section == "trace" and other.location == claim.location and other.code != claim.code)
    if cause is Cause.KERNEL_CHOICE and section_of(claim) == "trace":
        is_weight = section in ("parameters", "buffers") and other.field in ("digest", "dtype", "shape")
        return is_weight and two.module == one.module
    if cause is Cause.POSITIONS:  # the angles differ because the frequencies do
        return section == "buffers" and two.is_rotary and other.field in ("digest", "dtype", "shape")
    if cause is Cause.GENERATION:
        return section == "trace" and one.probe == two.probe
    if cause is Cause.BEAMS or cause is Cause.STATIC_CACHE:
        return section == "generation" and one.probe == two.probe and two.kind == "greedy"
    if cause is Cause.PADDED_ROWS:
        return section in ("trace", "outputs") and one.probe == two.probe and two.kind in ("", "logits")
    if cause is Cause.GRADIENT_PATH:
        is_frozen = section == "parameters" and other.field == "requires_grad"
        return is_frozen and is_above(two.module, one.module)
    if cause is Cause.LOST_KEY:
        return section == "files" and other.location == claim.location and other.field in ("unexpected", "cast")
    return False


def _place(finding: Finding) -> Place:
    return place_of(section_of(finding), finding.location)
