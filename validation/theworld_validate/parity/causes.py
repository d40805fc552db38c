"""Causes put to checks: every finding is a root with its cause, or says which root it follows from.

In: checks, and what the second look measured. Out: the same checks, explained; those with the likeliest roots first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from theworld_validate.compare.causes import WeightEvidence
from theworld_validate.compare.differences import differing_places
from theworld_validate.compare.explain import Evidence, explain, rank_roots
from theworld_validate.documents.observations import STATE_SECTIONS
from theworld_validate.parity.judge import Comparison, missing_evidence
from theworld_validate.results import CheckResult, Status


def gather_evidence(comparison: Comparison, measured: Mapping[str, Any]) -> Evidence:
    """What is known of two sides beyond their findings.

    Args:
        measured: what `check.look_at_both` returned.
    """
    compared = frozenset(name for name in comparison.plan.sections if missing_evidence(name, comparison) is None)
    weights = {
        str(row["name"]): WeightEvidence(
            differing_share=float(row["differing_share"]),
            candidate_std=row["candidate_std"],
            initializer_range=initializer_range(comparison),
        )
        for row in measured.get("weights", [])
    }
    expected, actual = comparison.expected.sections, comparison.actual.sections
    places: dict[str, tuple[str, ...]] = {}
    for name in STATE_SECTIONS:
        places |= differing_places(name, expected.get(name, {}), actual.get(name, {}))
    place, equal = measured.get("divergence_place"), measured.get("divergence_inputs_equal")
    return Evidence(
        compared=compared,
        weights=weights,
        inputs_equal={} if place is None or equal is None else {place: equal},
        candidate_repeats=measured.get("candidate_repeats"),
        places=places,
    )


def initializer_range(comparison: Comparison) -> float:
    """The spread of freshly drawn weights, as the reference's config has it."""
    config = comparison.expected.sections.get("config", {})
    for name in ("config.text_config.initializer_range", "config.initializer_range"):
        value = config.get(name, {}).get("value")
        if isinstance(value, float):
            return value
    return 0.02  # transformers' own default


def explain_checks(checks: Sequence[CheckResult], evidence: Evidence) -> list[CheckResult]:
    """Explain the findings of checks that failed, and put the check with the likeliest root first."""
    places = [
        (number, i)
        for number, check in enumerate(checks)
        if check.status is Status.FAILED
        for i in range(len(check.findings))
    ]
    findings = [checks[number].findings[i] for number, i in places]
    if not findings:
        return list(checks)
    explained = explain(findings, evidence)
    own = [list(check.findings) for check in checks]
    for (number, i), finding in zip(places, explained, strict=True):
        own[number][i] = finding
    done = [replace(check, findings=tuple(own[number])) for number, check in enumerate(checks)]
    order = {finding.key: position for position, finding in enumerate(rank_roots(explained))}

    def rank(check: CheckResult) -> int:
        ranks = [order[f.key] for f in check.findings if f.explained_by is None and f.key in order]
        return min(ranks, default=len(order))

    return sorted(done, key=rank)
