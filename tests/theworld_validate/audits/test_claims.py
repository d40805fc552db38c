"""The claims: each is measured, a verdict that changes fails, and contradictions are shown."""

from dataclasses import replace
from typing import Any

import pytest

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate import jobs
from theworld_validate.audits import claims
from theworld_validate.audits.claims import MEASURES, Evidence, Training, check_claims, find_contradictions
from theworld_validate.audits.claims_file import read_claims
from theworld_validate.results import CheckResult, Status
from theworld_validate.target import Target
from theworld_validate.workers.messages import Checked


@pytest.fixture(scope="module")
def evidence(tiny: SyntheticCheckpoint) -> Evidence:
    """What the command gathers, in this process."""
    gathered: list[Evidence] = []

    def gather(evidence: Evidence) -> tuple[CheckResult, ...]:
        gathered.append(evidence)
        return ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "check_claims", gather)
        messages = list(jobs.claims(Target(checkpoint=str(tiny.gemma)), parity=Status.PASSED))
        assert not [message for message in messages if isinstance(message, Checked)]
    return gathered[0]


def verdicts(evidence: Evidence) -> dict[str, str]:
    return {
        f"{check.id.removeprefix('claims.')}.{row['claim']}": row["verdict"]
        for check in check_claims(evidence)
        for row in check.measurements["claims"]
    }


def failed(evidence: Evidence) -> dict[str, list[str]]:
    return {
        check.id: [finding.location for finding in check.findings if finding.severity == "error"]
        for check in check_claims(evidence)
        if check.status is Status.FAILED
    }


def test_every_claim_has_the_recorded_verdict_without_a_gpu(evidence: Evidence) -> None:
    assert failed(evidence) == {}
    assert verdicts(evidence) == {claim.id: claim.recorded for claim in read_claims()}
    skipped = [check for check in check_claims(evidence) if check.status is Status.SKIPPED]
    assert [(check.id, check.reason) for check in skipped] == [
        ("claims.memory", "13 claims need a GPU"),
        ("claims.speed", "1 claims need a GPU"),
    ]


def test_a_refuted_claim_is_said_and_does_not_fail(evidence: Evidence) -> None:
    (shapes,) = [check for check in check_claims(evidence) if check.id == "claims.shapes"]
    assert shapes.status is Status.PASSED
    assert [finding.severity for finding in shapes.findings] == ["warning"]
    assert "from 16 to 2304; measured 2,560: refuted" in shapes.findings[0].message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e: replace(e, parity=Status.FAILED), {"claims.loading": ["loading.bit_identity"]}),
        (
            lambda e: replace(e, ledger={**e.ledger, "vision_tower": 1}),
            {"claims.counts": ["counts.vision_tower"], "claims.presets": None},
        ),
        (
            lambda e: replace(e, facts=replace(e.facts, loaded_inv_freq="bfloat16", gradients="float32")),
            {"claims.loading": ["loading.inv_freq_kept"], "claims.precision": ["precision.gradients"]},
        ),
    ],
)
def test_a_verdict_that_changes_fails(evidence: Evidence, change: Any, expected: dict[str, list[str] | None]) -> None:
    seen = failed(change(evidence))
    assert seen.keys() == expected.keys()
    for check, locations in expected.items():
        assert locations is None or seen[check] == locations


def test_a_gpu_run_fills_the_rest(evidence: Evidence) -> None:
    """With the figures that were measured on an H200 at 784 world tokens."""

    def step(gigabytes: float, activations: float, seconds: float) -> Training:
        return Training(peak_bytes=int(gigabytes * 1e9), activation_bytes=int(activations * 1e9), step_seconds=seconds)

    training = {
        ("projection", False): step(25.0, 15.0, 0.20),
        ("vision", False): step(37.0, 20.0, 0.22),
        ("full", False): step(52.1, 18.0, 0.31),
        ("full", True): step(43.4, 3.0, 0.41),
    }
    filled = verdicts(replace(evidence, training=training))
    assert filled["memory.projection"] == "explained"
    assert filled["memory.vision"] == "holds"
    assert filled["memory.full"] == "refuted"
    assert filled["memory.activations"] == "holds"
    assert filled["memory.vision_adds"] == "refuted"
    assert filled["speed.checkpointing"] == "holds"
    assert filled["memory.language_adds"] == "needs a GPU"
    checks = {check.id: check for check in check_claims(replace(evidence, training=training))}
    assert checks["claims.memory"].status is Status.PASSED


def test_the_documented_range_is_the_weights_of_all_that_is_loaded(evidence: Evidence) -> None:
    """20 to 24 GB: what no step uses is in it, and a transformer of another size would not explain it."""

    def row_of(evidence: Evidence) -> dict[str, Any]:
        (memory,) = [check for check in check_claims(evidence) if check.id == "claims.memory"]
        return next(row for row in memory.measurements["claims"] if row["claim"] == "projection")

    row = row_of(evidence)
    assert (row["verdict"], row["measured"]) == ("needs a GPU", None)
    assert "22.50 GB in bfloat16, of which 13.64 (" in row["explanation"]
    peak = {("projection", False): Training(peak_bytes=25 * 10**9, activation_bytes=1, step_seconds=1.0)}
    small = {**evidence.predictors, "text_encoder": 10**6}
    assert row_of(replace(evidence, training=peak, predictors=small))["verdict"] == "refuted"


def test_contradictions() -> None:
    found = find_contradictions(read_claims())
    assert found["memory.language_checkpointing"] == "memory.language_checkpointing_again"
    assert found["memory.full_checkpointing"] == "memory.full_checkpointing_again"
    assert found["shapes.hidden_size"] == "counts.world_projection"
    assert "memory.projection" not in found


def test_the_table_is_whole() -> None:
    table = read_claims()
    assert len({claim.id for claim in table}) == len(table) > 40
    assert {claim.measure for claim in table} == set(MEASURES)
    assert all(claim.line and claim.says for claim in table)
