"""The gradient audit: passes for the presets that are for use, and catches what is dead, leaking or broken."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.conftest import load_world
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_model import TheWorldModel
from theworld_validate.audits.gradients import audit_gradients, check_gradients, step_inputs
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET


@pytest.fixture
def subject(tiny: SyntheticCheckpoint) -> Subject:
    return Subject(target=CANDIDATE_TARGET, checkpoint=str(tiny.gemma), cosmos=str(tiny.cosmos))


def audit(model: Any, tiny: SyntheticCheckpoint) -> CheckResult:
    inputs = step_inputs(str(tiny.gemma))
    return audit_gradients(model, lambda asked: asked(**inputs).loss, check_id="gradients.test")


def test_the_presets_for_use_pass(subject: Subject) -> None:
    checks = list(check_gradients(subject))
    assert [check.id for check in checks] == [
        f"gradients.{preset}" for preset in ("projection", "vision", "language", "full")
    ]
    assert {check.status for check in checks} == {Status.PASSED}
    for check in checks:
        rows = check.measurements["components"]
        assert sum(row["learns"] for row in rows) == check.measurements["trainable_parameters"] > 0
        assert check.findings == ()


def test_the_documented_preset_trains_what_nothing_reaches(subject: Subject) -> None:
    (check,) = check_gradients(subject, presets=["documented"])
    assert check.status is Status.FAILED
    dead = {row["component"]: row["dead"] for row in check.measurements["components"] if row["dead"]}
    assert set(dead) == {"vae_quant_conv", "vae_post_quant_conv", "vae_decoder"}
    assert check.measurements["dead_parameters"] == sum(dead.values())
    assert [finding.code for finding in check.findings] == [*["gradients.dead"] * 3, "gradients.ddp"]
    assert "find_unused_parameters=True" in (check.findings[-1].remedy or "")


def leave_a_hook(model: Any) -> None:
    """What gradient_checkpointing_disable() leaves behind."""
    model.model.vision_tower.embeddings.patch_embedding.register_forward_hook(
        lambda module, args, output: output.requires_grad_()
    )


def write_a_frozen_gradient(model: Any) -> None:
    weight = model.model.language_model.norm.weight
    model.world_projection.register_forward_hook(
        lambda module, args, output: setattr(weight, "grad", torch.ones_like(weight))
    )


def detach_the_branch(model: Any) -> None:
    model.world_projection.register_forward_hook(lambda module, args, output: output.detach())


FAULTS: dict[Callable[[Any], None], tuple[str, str]] = {
    leave_a_hook: ("gradients.frozen_output", "model.vision_tower.embeddings.patch_embedding"),
    write_a_frozen_gradient: ("gradients.frozen_but_receives", "model.language_model.norm.weight"),
    detach_the_branch: ("gradients.dead", "model.world_projection.linear.weight"),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_caught(tiny: SyntheticCheckpoint, plant: Callable[[Any], None]) -> None:
    model = load_world(tiny)
    assert audit(model, tiny).findings == ()
    plant(model)
    check = audit(model, tiny)
    assert check.status is Status.FAILED
    code, location = FAULTS[plant]
    assert (check.findings[0].code, check.findings[0].location) == (code, location)


@pytest.mark.parametrize(("scale", "code", "status"), [(0.0, "zero", "passed"), (float("inf"), "non_finite", "failed")])
def test_zero_and_non_finite_gradients(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch, scale: float, code: str, status: str
) -> None:
    original = TheWorldModel.get_world_features
    monkeypatch.setattr(TheWorldModel, "get_world_features", lambda self, *a: original(self, *a) * scale)
    check = audit(load_world(tiny), tiny)
    assert f"gradients.{code}" in {finding.code for finding in check.findings}
    assert check.status == status


def test_the_model_is_left_as_it_was(tiny: SyntheticCheckpoint) -> None:
    model = load_world(tiny)
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    audit(model, tiny)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks


def test_what_cannot_be_audited_is_refused(tiny: SyntheticCheckpoint, subject: Subject) -> None:
    with pytest.raises(InputError, match="every parameter is frozen"):
        audit(load_world(tiny).requires_grad_(False), tiny)
    with pytest.raises(InputError, match="no such freeze preset"):
        next(check_gradients(subject, presets=["half"]))
    with pytest.raises(InputError, match="a model without a VAE"):
        next(check_gradients(Subject(target=CANDIDATE_TARGET, checkpoint=str(tiny.gemma))))
