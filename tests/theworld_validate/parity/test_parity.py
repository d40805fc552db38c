"""Parity: passes on what is equal, and names what is not."""

from typing import Any

import pytest
import torch

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.parity.check import check_parity, count_steps
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.results import CheckResult, Finding, Status, combine
from theworld_validate.subjects.subject import CANDIDATE_TARGET, REFERENCE_TARGET, Subject, read_config

FAULTY = "tests.theworld_validate.faulty_candidates:"


def compare(
    tiny: SyntheticCheckpoint,
    candidate: str = CANDIDATE_TARGET,
    *,
    reference: str = REFERENCE_TARGET,
    probes: tuple[str, ...] = ("text",),
    **loading: Any,
) -> dict[str, CheckResult]:
    checkpoint = str(tiny.gemma)
    chosen = [probe for probe in build_probes(read_config(checkpoint)) if probe.name in probes]
    steps: list[str] = []
    checks = check_parity(
        Subject(target=reference, checkpoint=checkpoint, **loading),
        Subject(target=candidate, checkpoint=checkpoint, **loading),
        chosen,
        progress=steps.append,
    )
    assert len([step for step in steps if step != "looking for the cause"]) == count_steps(chosen)
    return {check.id: check for check in checks}


def findings(checks: dict[str, CheckResult]) -> dict[str, Finding]:
    return {finding.code: finding for check in checks.values() for finding in check.findings}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_branch_switched_off_is_gemma(tiny: SyntheticCheckpoint, dtype: str) -> None:
    names = ("text", "image", "two_images", "left_padded_batch", "beyond_window", "cached_decode")
    checks = compare(tiny, dtype=dtype, probes=names)
    assert combine([check.status for check in checks.values()]) is Status.PASSED
    assert not findings(checks)
    for name in names:
        measured = checks[f"parity.probe.{name}"].measurements
        assert measured["module_outputs_compared"] > 100
        assert measured["outputs_compared"] >= 18  # logits, loss, and keys and values of 8 layers
        assert measured["generations_compared"] == (0 if name == "cached_decode" else 10)
    assert checks["parity.parameters"].measurements["compared_bytes"] > 3_000_000


@pytest.mark.parametrize(
    ("fault", "code", "location"),
    [
        ("inv_freq_in_bfloat16", "buffers.dtype", "model.language_model.rotary_emb.full_attention_inv_freq"),
        ("last_bit_flipped", "parameters.digest", "model.language_model.layers.3.mlp.down_proj.weight"),
        ("train_mode", "modules.training", "(model)"),
        ("draws_while_loading", "globals.value", "rng_state_cpu"),
        ("extra_parameter", "parameters.extra", "world_projection.weight"),
        ("leftover_hook", "modules.hooks", "model.language_model.layers.2"),
        ("untied_head", "parameters.tied_to", "lm_head.weight"),
        ("longer_window", "config.value", "config.text_config.sliding_window"),
    ],
)
def test_a_planted_fault_is_caught_and_named(tiny: SyntheticCheckpoint, fault: str, code: str, location: str) -> None:
    checks = compare(tiny, FAULTY + fault)
    assert combine([check.status for check in checks.values()]) is Status.FAILED
    found = findings(checks)
    assert found[code].location == location
    assert found[code].cause
    assert found[code].remedy


def test_a_plain_subclass_passes(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "PlainSubclass", probes=("image",))
    assert {check.status for check in checks.values()} == {Status.PASSED}


def test_eager_against_sdpa_fails_at_the_attention_layer(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "eager_attention", probes=("image",))
    assert checks["parity.cause"].findings[0].code == "cause.attention_implementation"
    (first,) = checks["parity.probe.image"].findings
    assert "vision_tower" in first.location
    assert "self_attn" in first.location


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning:peft")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning:transformers")
def test_a_disabled_peft_adapter_answers_alike_and_is_seen(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "peft_with_adapter_disabled", probes=("image",))
    found = findings(checks)
    assert "q_proj." in found["parameters.extra"].location
    assert found["modules.class"].actual.startswith("peft.")
    assert checks["parity.probe.image"].measurements["differing_outputs"] == 0


def test_the_cause_is_measured(tiny: SyntheticCheckpoint) -> None:
    cause = compare(tiny, FAULTY + "inv_freq_in_bfloat16")["parity.cause"]
    assert cause.findings[0].code == "cause.buffer_dtype"
    measured = cause.measurements
    # The layer types are a set: which of the two comes first differs from process to process.
    assert measured["divergence_place"].startswith("text/model.language_model.rotary_emb(")
    assert measured["divergence_inputs_equal"] is True
    assert 0 < measured["divergence_differing_share"] < 1
    assert measured["divergence_max_abs_difference"] > 0
    assert len(measured["divergence_spread"]) == 8


def test_a_wrong_buffer_changes_outputs_and_the_trace_says_where_first(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "inv_freq_in_bfloat16")
    found = findings(checks)
    assert "rotary_emb" in found["trace.digest"].location
    assert checks["parity.probe.text"].measurements["differing_outputs"] > 0
    assert found["buffers.dtype"].actual == "bfloat16"


def test_a_reference_that_differs_from_itself_is_inconclusive(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, reference=FAULTY + "other_seed_for_each_call")
    assert checks["parity.control"].status is Status.INCONCLUSIVE
    assert checks["parity.probe.text"].status is Status.INCONCLUSIVE
    assert "not deterministic" in (checks["parity.control"].findings[0].cause or "")


def test_gradients_that_differ_from_themselves_are_inconclusive(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, reference=FAULTY + "random_gradients", probes=("image",))
    assert checks["parity.control"].status is Status.INCONCLUSIVE
    assert checks["parity.control"].findings[0].code == "gradients.digest"
    assert checks["parity.gradients"].status is Status.INCONCLUSIVE
    assert checks["parity.gradients"].reason == "the control differs here"
    assert checks["parity.probe.image"].status is Status.PASSED


def test_a_candidate_that_raises_fails(tiny: SyntheticCheckpoint) -> None:
    checkpoint = str(tiny.gemma)
    sides = [Subject(target=name, checkpoint=checkpoint) for name in (REFERENCE_TARGET, FAULTY + "raises")]
    probes = [probe for probe in build_probes(read_config(checkpoint)) if probe.name == "text"]
    checks = {check.id: check for check in check_parity(*sides, probes)}
    assert checks["parity.candidate"].status is Status.FAILED
    (finding,) = checks["parity.candidate"].findings
    assert finding.message == "the candidate raises IndexError: no such layer"
    assert "faulty_candidates.py:" in finding.location


def test_nothing_compared_is_inconclusive(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, probes=())
    assert checks["parity.control"].status is Status.INCONCLUSIVE
    assert checks["parity.control"].reason == "nothing was compared"


def test_global_state_is_left_as_it_was(tiny: SyntheticCheckpoint) -> None:
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    compare(tiny)
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == (grad, dtype)
