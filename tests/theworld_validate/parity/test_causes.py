"""Causes put to checks: the check with the likeliest root is first, and consequences name their root."""

import pytest

from tests.theworld_validate.parity.documents import (
    BUFFER,
    NORM,
    PLAN,
    WEIGHT,
    digest_of,
    tensor,
    whole,
    with_places,
    without,
)
from theworld_validate.compare.explain import Evidence, contradictions
from theworld_validate.documents.observations import SECTIONS, Fingerprint
from theworld_validate.parity.causes import explain_checks, gather_evidence, initializer_range
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.results import CheckResult, Finding, Status


def comparison_of(candidate: Fingerprint, reference: Fingerprint | None = None) -> Comparison:
    return Comparison(
        plan=PLAN, reference=Side(fingerprint=reference or whole()), candidate=Side(fingerprint=candidate)
    )


def explained(candidate: Fingerprint) -> list[CheckResult]:
    comparison = comparison_of(candidate)
    return explain_checks(list(judge(comparison)), gather_evidence(comparison, {}))


def spoilt_by_a_buffer() -> Fingerprint:
    """The buffer's dtype differs, and the trace and the outputs of one probe with it."""
    made = with_places(whole(), "buffers", {BUFFER: tensor(9, dtype="float32")})
    made = with_places(
        made, "round_trip", {f"{part}buffers/{BUFFER}": tensor(9, dtype="float32") for part in ("", "base/")}
    )
    made = with_places(made, "trace", {f"text/{NORM}": {"digest": digest_of(9)}})
    return with_places(made, "outputs", {"text/logits": {"digest": digest_of(9)}})


def test_the_check_with_the_root_is_first_and_the_others_keep_their_order() -> None:
    checks = explained(spoilt_by_a_buffer())
    assert [check.id.removeprefix("parity.") for check in checks] == [
        "buffers",
        "files",
        "config",
        "modules",
        "parameters",
        "globals",
        "gradients",
        "probe.text",
        "probe.image",
        "round_trip",
    ]
    (root,) = checks[0].findings
    assert root.explained_by is None
    assert root.cause is not None
    assert root.cause.startswith("buffer dtype: ")
    assert root.remedy
    (probe,) = [check for check in checks if check.id == "parity.probe.text"]
    assert probe.status is Status.FAILED
    assert {finding.explained_by for finding in probe.findings} == {root.key}
    assert {(finding.cause, finding.remedy) for finding in probe.findings} == {(None, None)}


def test_of_two_roots_the_more_telling_kind_is_first() -> None:
    both = with_places(spoilt_by_a_buffer(), "modules", {"(model)": {"class": "Gemma3", "training": True}})
    checks = explained(both)
    assert [check.id for check in checks[:2]] == ["parity.modules", "parity.buffers"]


def test_no_report_contradicts_itself() -> None:
    for candidate in (spoilt_by_a_buffer(), with_places(whole(), "parameters", {WEIGHT: tensor(9)})):
        assert contradictions([finding for check in explained(candidate) for finding in check.findings]) == ()


def test_checks_without_a_failure_are_left_as_they_are() -> None:
    checks = list(judge(comparison_of(whole())))
    assert explain_checks(checks, Evidence()) == checks


def finding(code: str, location: str) -> Finding:
    section, _, field = code.partition(".")
    return Finding(code=code, location=location, message="m", section=section, field=field)


def check(name: str, status: Status, *findings: Finding) -> CheckResult:
    return CheckResult(id=f"parity.{name}", status=status, seconds=0.0, findings=findings)


def test_findings_of_an_inconclusive_check_explain_nothing() -> None:
    """A control that differs is about the reference: no finding on the candidate follows from it."""
    control = check("control", Status.INCONCLUSIVE, finding("trace.digest", f"text/{NORM}"))
    failed = check("probe.text", Status.FAILED, finding("outputs.digest", "text/logits"))
    first, second = explain_checks([control, failed], Evidence())
    assert (first.id, second.id) == ("parity.probe.text", "parity.control")
    assert first.findings[0].explained_by is None
    assert first.findings[0].cause
    assert second == control


def test_a_check_of_consequences_alone_comes_after_the_roots() -> None:
    checks = [
        check("probe.text", Status.FAILED, finding("trace.digest", "text/layers.0.mlp.up_proj")),
        check("config", Status.PASSED),
        check("parameters", Status.FAILED, finding("parameters.digest", WEIGHT)),
    ]
    assert [c.id for c in explain_checks(checks, Evidence())] == [
        "parity.parameters",
        "parity.probe.text",
        "parity.config",
    ]


# Evidence.


def test_evidence_names_what_was_compared_and_where_it_differs() -> None:
    made = without(with_places(whole(), "parameters", {WEIGHT: tensor(9), "b.weight": tensor(8)}), "gradients")
    evidence = gather_evidence(comparison_of(made), {})
    assert evidence.compared == frozenset(SECTIONS) - {"gradients"}
    assert evidence.places == {
        f"parameters.digest@{WEIGHT}": (WEIGHT,),
        "parameters.extra@b.weight": ("b.weight",),
    }
    assert (evidence.weights, evidence.inputs_equal, evidence.candidate_repeats) == ({}, {}, None)


def test_evidence_of_the_second_look() -> None:
    measured = {
        "weights": [{"name": WEIGHT, "differing_share": 0.99, "candidate_std": 0.0201, "reference_std": 0.3}],
        "divergence_place": f"text/{NORM}",
        "divergence_inputs_equal": True,
        "candidate_repeats": False,
    }
    evidence = gather_evidence(comparison_of(whole()), measured)
    assert evidence.weights[WEIGHT].looks_initialised
    assert evidence.inputs_equal == {f"text/{NORM}": True}
    assert evidence.candidate_repeats is False
    unknown = gather_evidence(comparison_of(whole()), {**measured, "divergence_inputs_equal": None})
    assert unknown.inputs_equal == {}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"config.text_config.initializer_range": {"value": 0.5}, "config.initializer_range": {"value": 0.1}}, 0.5),
        ({"config.initializer_range": {"value": 0.1}}, 0.1),
        ({"config.initializer_range": {"value": "0.1"}}, 0.02),
        ({}, 0.02),
    ],
)
def test_the_spread_of_fresh_weights_is_the_configs(config: dict[str, dict[str, float]], expected: float) -> None:
    reference = with_places(whole(), "config", config)
    assert initializer_range(comparison_of(whole(), reference)) == expected
