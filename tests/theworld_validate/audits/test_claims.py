"""The claims: each is measured, a verdict that changes fails, and contradictions are shown."""

from dataclasses import replace
from typing import Any

import pytest

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate import jobs
from theworld_validate.audits import claims
from theworld_validate.audits.claims import MEASURES, check_claims, find_contradictions
from theworld_validate.audits.claims_evidence import Evidence, Training
from theworld_validate.audits.claims_file import read_claims
from theworld_validate.rendering.tables import MAX_CELL
from theworld_validate.results import CheckResult, Status
from theworld_validate.target import Target
from theworld_validate.workers.messages import Checked

SUPPORTED = ("holds", "explained")


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
        ("claims.memory", "15 claims need a GPU"),
        ("claims.speed", "2 claims need a GPU"),
    ]


def test_a_refuted_claim_is_said_and_does_not_fail(evidence: Evidence) -> None:
    (shapes,) = [check for check in check_claims(evidence) if check.id == "claims.shapes"]
    assert shapes.status is Status.PASSED
    assert [finding.severity for finding in shapes.findings] == ["warning"]
    assert shapes.findings[0].message == (
        "the notes say: the projection goes from 16 to 2304 "
        '(line 181: "World Projection Layer: Dimensionality: 16 → 2304"); measured 2,560: refuted'
    )


def test_every_claim_is_quoted_in_its_row(evidence: Evidence) -> None:
    """Every line that says it, in the notes' own words; so nobody needs the document."""
    rows = {
        f"{check.id.removeprefix('claims.')}.{row['claim']}": row
        for check in check_claims(evidence)
        for row in check.measurements["claims"]
    }
    for claim in read_claims():
        has_figure = claim.low is not None and claim.measure != "bit_identity"
        assert (rows[claim.id]["unit"] is not None) == has_figure, claim.id
        quote = rows[claim.id]["quote"]
        assert quote == claim.quote
        assert len(quote) < MAX_CELL  # no form cuts it
        assert all(f'line {line}: "' in quote for line in claim.line)
    assert (
        'line 213: "Configuration 1: Projection Only (Default): Trainable: 76.29M (1.72%)"'
        in (rows["presets.projection_trainable"]["quote"])
    )


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


def with_gpu(evidence: Evidence) -> Evidence:
    """With the figures that were measured on an H200 at 784 world tokens."""

    def step(gigabytes: float, activations: float, seconds: float) -> Training:
        return Training(peak_bytes=int(gigabytes * 1e9), activation_bytes=int(activations * 1e9), step_seconds=seconds)

    training = {
        ("projection", False): step(25.0, 15.0, 0.20),
        ("vision", False): step(37.0, 20.0, 0.22),
        ("full", False): step(52.1, 18.0, 0.31),
        ("full", True): step(43.4, 3.0, 0.41),
    }
    return replace(evidence, training=training)


def test_a_gpu_run_fills_the_rest(evidence: Evidence) -> None:
    filled = verdicts(with_gpu(evidence))
    assert filled["memory.projection"] == "explained"
    assert filled["memory.vision"] == "holds"
    assert filled["memory.full"] == filled["memory.fsdp_required"] == "refuted"
    assert filled["memory.activations"] == "holds"
    assert filled["memory.vision_adds"] == "refuted"
    assert filled["speed.checkpointing"] == "holds"
    assert filled["memory.language_adds"] == filled["speed.order"] == "needs a GPU"
    checks = {check.id: check for check in check_claims(with_gpu(evidence))}
    assert checks["claims.memory"].status is Status.PASSED


@pytest.mark.parametrize(("seconds", "verdict"), [(0.25, "holds"), (0.21, "refuted")])
def test_the_order_of_speeds_is_that_of_steps(evidence: Evidence, seconds: float, verdict: str) -> None:
    language = Training(peak_bytes=81 * 10**9, activation_bytes=1, step_seconds=seconds)
    filled = with_gpu(evidence)
    seen = verdicts(replace(filled, training={**filled.training, ("language", False): language}))
    assert seen["speed.order"] == verdict
    assert seen["memory.checkpointing_essential"] == "holds"


def test_a_claim_with_a_wrong_figure_is_refuted(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every claim with a figure that holds or is explained, given another figure."""
    filled = with_gpu(evidence)
    before, table = verdicts(filled), read_claims()
    figures = [c for c in table if c.low is not None and c.measure != "bit_identity" and before[c.id] in SUPPORTED]
    assert {"training.fsdp_shards", "precision.saved", "memory.activations"} < {c.id for c in figures}
    wrong = {c.id: replace(c, low=1e15, high=1e15) for c in figures}
    monkeypatch.setattr(claims, "read_claims", lambda: tuple(wrong.get(claim.id, claim) for claim in table))
    assert {name: verdict for name, verdict in verdicts(filled).items() if name in wrong} == dict.fromkeys(
        wrong, "refuted"
    )


def _facts(**changes: Any) -> Any:
    return lambda e: replace(e, training_facts=replace(e.training_facts, **changes))


def _step(precision: str, **changes: Any) -> Any:
    def change(e: Evidence) -> Evidence:
        steps = e.training_facts.steps
        return _facts(steps={**steps, precision: replace(steps[precision], **changes)})(e)

    return change


def _default(*components: str) -> Any:
    return _facts(trains_by_default={"from_pretrained": components, "theworld-train": components})


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("training.vision_frozen", _default("vision_tower"), "refuted"),
        ("training.language_frozen", _default("language_model"), "refuted"),
        ("training.vae_frozen", _default("vae_encoder"), "refuted"),
        ("training.temporal_trains", _default("world_projection"), "refuted"),
        (
            "training.projection_always",
            lambda e: replace(e, presets={**e.presets, "full": {**e.presets["full"], "trains": "language_model"}}),
            "refuted",
        ),
        ("training.head_with_language", lambda e: replace(e, facts=replace(e.facts, head_is_tied=False)), "refuted"),
        ("training.checkpointing_key", _facts(refusal=None), "holds"),
        ("training.checkpointing_key", _facts(refusal="there is no such key"), "refuted"),
        ("training.mixed_by_default", _facts(precision_by_default="mixed"), "holds"),
        ("training.ddp_copies", _facts(rank_shares={"ddp": 50.0, "fsdp": 50.0}), "refuted"),
        ("training.fsdp_shards", _facts(rank_shares={"ddp": 100.0, "fsdp": 100.0}), "refuted"),
        ("precision.gradients", _step("mixed", gradients="bfloat16"), "refuted"),
        ("precision.saved", _step("bfloat16", trainable_bytes=1), "refuted"),
        ("training.temporal_negligible", _facts(trainable=1), "refuted"),
        ("training.projection_negligible", _facts(trainable=1), "refuted"),
    ],
)
def test_a_fault_in_training_changes_the_verdict(evidence: Evidence, name: str, change: Any, verdict: str) -> None:
    changed = change(evidence)
    assert verdicts(changed)[name] == verdict
    assert [name in locations for locations in failed(changed).values() if name in locations] == [True]


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
