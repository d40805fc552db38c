"""The buffer audit: passes on what from_pretrained makes, and catches each planted fault."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import load_world
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_encoder import WorldEncoder
from theworld_validate.audits.buffer_formulas import distance_in_ulps, expect_buffers
from theworld_validate.audits.buffers import _names, audit_buffers, check_buffers
from theworld_validate.audits.latents_statistics import audit_latents_statistics
from theworld_validate.audits.transformations import TRANSFORMATIONS
from theworld_validate.fingerprint.state import fingerprint_buffers
from theworld_validate.results import Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET

INV_FREQ = "model.language_model.rotary_emb.full_attention_inv_freq"


def subjects(tiny: SyntheticCheckpoint, **fields: Any) -> tuple[Subject, Subject]:
    checkpoint = str(tiny.gemma)
    return (
        Subject(target=REFERENCE_TARGET, checkpoint=checkpoint, **fields),
        Subject(**{"target": CANDIDATE_TARGET, "checkpoint": checkpoint, "cosmos": str(tiny.cosmos), **fields}),
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_loaded_buffers_pass(tiny: SyntheticCheckpoint, dtype: str) -> None:
    loaded, after_to, after_half, after_save = check_buffers(*subjects(tiny, dtype=dtype), after=("to", "half", "save"))
    assert {check.status for check in (loaded, after_to, after_half, after_save)} == {Status.PASSED}
    assert loaded.measurements["formulas_checked"] == len(loaded.measurements["buffers"]) == 6
    assert loaded.measurements["max_float32_ulps"] <= 1
    assert after_save.measurements["changed_buffers"] == 0
    # What casts break, they break in the base class too: said, and no failure of the candidate.
    assert after_to.measurements["changed_buffers"] == (0 if dtype == "float32" else 4)
    assert after_half.measurements["changed_buffers"] == (4 if dtype == "float16" else 5)
    assert {finding.severity for finding in (*after_to.findings, *after_half.findings)} == {"warning"}


def test_compiling_changes_no_buffer(tiny: SyntheticCheckpoint) -> None:
    _, after = check_buffers(*subjects(tiny), after=("compile",))
    assert (after.status, after.measurements["changed_buffers"]) == (Status.PASSED, 0)


def test_what_cannot_be_done_here_is_skipped_with_the_reason(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, after = check_buffers(*subjects(tiny), after=("device",))
    assert (after.status, after.reason) == (Status.SKIPPED, "this machine has no CUDA device to move to")


def test_a_cast_that_only_the_candidate_suffers_from_fails(tiny: SyntheticCheckpoint) -> None:
    reference, candidate = subjects(tiny, cosmos=None)
    candidate = Subject(target=f"{__name__}:halves_badly", checkpoint=candidate.checkpoint)
    _, after = check_buffers(reference, candidate, after=("half",))
    assert after.status is Status.FAILED
    assert "buffers.digest" in {finding.code for finding in after.findings}


def halves_badly(checkpoint: str, **arguments: Any) -> Any:
    from transformers import Gemma3ForConditionalGeneration

    class HalvesBadly(Gemma3ForConditionalGeneration):
        def half(self) -> Any:
            super().half()
            self.get_buffer(INV_FREQ).zero_()
            return self

    return HalvesBadly.from_pretrained(checkpoint, **arguments)


def rotary(model: Any) -> Any:
    return model.model.language_model.rotary_emb


def cast(model: Any) -> None:
    model.to(torch.bfloat16)


def leave_uninitialised(model: Any) -> None:
    rotary(model).full_attention_inv_freq.fill_(float("nan"))


def wrong_theta(model: Any) -> None:
    rotary(model).full_attention_inv_freq.mul_(1.001)


def become_parameter(model: Any) -> None:
    value = rotary(model).full_attention_inv_freq
    del rotary(model).full_attention_inv_freq
    rotary(model).full_attention_inv_freq = nn.Parameter(value)


def become_buffer(model: Any) -> None:
    norm = model.model.language_model.norm
    value = norm.weight.detach()
    del norm.weight
    norm.register_buffer("weight", value)


def become_persistent(model: Any) -> None:
    rotary(model)._non_persistent_buffers_set.discard("full_attention_inv_freq")


def stay_on_meta(model: Any) -> None:
    rotary(model).full_attention_inv_freq = torch.empty(32, device="meta")


def disappear(model: Any) -> None:
    del model.model.language_model.embed_tokens.embed_scale


FAULTS: dict[Callable[[Any], None], set[str]] = {
    cast: {"buffers.dtype", "buffers.formula"},
    leave_uninitialised: {"buffers.digest", "buffers.formula"},
    wrong_theta: {"buffers.digest", "buffers.formula"},
    become_parameter: {"buffers.kind"},
    become_buffer: {"buffers.kind"},
    become_persistent: {"buffers.persistent"},
    stay_on_meta: {"buffers.device"},
    disappear: {"buffers.missing"},
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_caught(gemma: Any, tiny: SyntheticCheckpoint, plant: Callable[[Any], None]) -> None:
    expected, names = fingerprint_buffers(gemma), _names(gemma)
    model = Subject(target=CANDIDATE_TARGET, checkpoint=str(tiny.gemma), dtype="float32").load()
    assert not audit_buffers(model, base_names=names, expected=expected, actual=fingerprint_buffers(model))
    plant(model)
    actual = {} if plant is stay_on_meta else fingerprint_buffers(model)
    expected = {} if plant is stay_on_meta else expected
    codes = {f.code for f in audit_buffers(model, base_names=names, expected=expected, actual=actual)}
    assert codes == FAULTS[plant]


def test_a_device_map_is_followed(gemma: Any) -> None:
    gemma.hf_device_map = {"model.vision_tower": "cpu", "model.language_model": "meta", "lm_head": "cpu"}
    findings = audit_buffers(gemma, base_names=_names(gemma), expected={}, actual={})
    assert {finding.code for finding in findings} == {"buffers.device"}
    assert all(finding.location.startswith("model.language_model") for finding in findings)


def test_a_fault_of_the_base_class_itself_is_caught_by_the_formula(gemma: Any) -> None:
    wrong_theta(gemma)
    seen = fingerprint_buffers(gemma)
    (finding,) = audit_buffers(gemma, base_names=_names(gemma), expected=seen, actual=seen)
    assert (finding.code, finding.location) == ("buffers.formula", INV_FREQ)
    assert "Su et al." in finding.message


def test_the_formula_knows_what_rounding_is_gemmas_own(gemma: Any) -> None:
    expected = expect_buffers(gemma)["model.language_model.embed_tokens.embed_scale"]
    assert distance_in_ulps(torch.tensor(80.0).sqrt(), expected) == 0
    assert distance_in_ulps(torch.tensor(80.0).sqrt().bfloat16(), expected) == 0
    assert (distance_in_ulps(torch.tensor(8.875), expected) or 0) > expected.max_ulps
    assert distance_in_ulps(torch.ones(2), expected) is None


def test_rotary_types_without_a_formula_are_left_to_the_base_class(gemma: Any) -> None:
    gemma.config.text_config.rope_parameters["full_attention"]["rope_type"] = "yarn"
    assert not any("full_attention" in name for name in expect_buffers(gemma))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_statistics(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    model = load_world(tiny, dtype=dtype)
    assert audit_latents_statistics(model) == []
    monkeypatch.setattr(
        WorldEncoder, "forward", lambda self, frames: self.vae.encode(frames.to(self.vae.dtype)).latent_dist.mode()
    )
    (finding,) = audit_latents_statistics(model)
    assert "are not (latents - mean) / std" in finding.message
    model.world_encoder.vae.register_to_config(latents_std=[0.0] * 16, latents_mean=[1.0])
    assert len(audit_latents_statistics(model)) == 2


def test_every_transformation_says_what_it_does() -> None:
    assert list(TRANSFORMATIONS) == ["to", "half", "save", "device", "compile"]
