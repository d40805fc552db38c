"""A second look at two models that differ: what their fingerprints do not say.

In: both loaded models and the findings of their comparison. Out: for weights, how many elements differ and whether
they look freshly initialised; and whether the candidate repeats itself. Only made where something differs.
"""

from collections.abc import Sequence
from typing import Any

from theworld_validate.compare.causes import Cause, WeightEvidence, rank
from theworld_validate.fingerprint.behaviour import fingerprint_trace
from theworld_validate.probes.gemma3 import Probe
from theworld_validate.results import Finding

Ranked = list[tuple[Cause, str, str]]


def rank_with_second_look(
    reference: Any, candidate: Any, findings: Sequence[Finding], probes: Sequence[Probe], *, seed: int = 0
) -> Ranked:
    """Order findings by cause, after looking at the weights and the repeatability that they call into question.

    Args:
        reference, candidate: the loaded models that the findings are of.
        findings: of their comparison; the first of each kind.
        probes: what they were asked.
    """
    evidence: list[tuple[str, str, WeightEvidence | None]] = []
    for finding in findings:
        weight = None
        if finding.code == "parameters.digest":
            weight = _look_at_weight(reference, candidate, finding.location)
        evidence.append((finding.code, finding.location, weight))
    ranked = rank(evidence)
    first = next((finding for finding in findings if finding.code.startswith("trace.")), None)
    if first is not None and ranked[0][0] is Cause.KERNEL_CHOICE:
        probe = next(probe for probe in probes if probe.name == first.location.split("/")[0])
        runs = [fingerprint_trace(candidate, probe, seed=seed) for _ in range(2)]
        if runs[0] != runs[1]:
            place = next(place for place in runs[0] if runs[0][place] != runs[1].get(place))
            ranked.insert(0, (Cause.NON_DETERMINISM, "control.candidate", place))
    return ranked


def _look_at_weight(reference: Any, candidate: Any, name: str) -> WeightEvidence:
    expected, actual = (dict(model.named_parameters())[name].detach().float() for model in (reference, candidate))
    actual = actual.to(expected.device)
    return WeightEvidence(
        differing_share=float((expected != actual).float().mean()),
        candidate_std=float(actual.std(correction=0)),
        initializer_range=reference.config.text_config.initializer_range,
    )
