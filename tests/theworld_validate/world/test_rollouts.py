"""The checks of rollouts: they pass on the real path, and each catches a planted fault."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world, make_clip
from tests.theworld_validate.command_line import invoke
from theworld import RolloutConfig, TheWorld, world_rollout
from theworld.cosmos_pipelines import LatentPredict2
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_model import TheWorldModel
from theworld_validate.results import Status
from theworld_validate.world.rollouts import RolloutChecks, check_rollouts

ASKED = RolloutConfig(prompt="a", safety_checker=None, num_inference_steps=3)


@pytest.fixture(scope="module")
def model(tiny: SyntheticCheckpoint, whole_cosmos: Path) -> TheWorld:
    """A model that no test may change, but for the world model that it holds."""
    return load_world(SyntheticCheckpoint(gemma=tiny.gemma, cosmos=whole_cosmos))


def codes(model: Any, cosmos: Path, check: str) -> list[str]:
    path = RolloutChecks(model=model, cosmos=str(cosmos), clip=make_clip(5), asked=ASKED)
    return [finding.code for finding in getattr(path, check)()[1]]


def test_the_real_path_passes_and_says_what_it_compared(model: TheWorld, whole_cosmos: Path) -> None:
    made = {c.id: c for c in check_rollouts(model, str(whole_cosmos), make_clip(5), seed=3, progress=lambda _: None)}
    assert {id_: check.status for id_, check in made.items()} == dict.fromkeys(
        ("world.rollout_outside", "world.rollout_seed", "world.rollout_reference", "world.rollout_saved"), Status.PASSED
    )
    compared = made["world.rollout_reference"].measurements
    assert compared["latents_compared"] == 16 * 4 * 4 * 4
    assert compared["denoising_steps_of_reference"] == 3
    assert compared["guardrails_not_called"] == "text, video"
    assert made["world.rollout_seed"].measurements["max_abs_difference_of_seeds"] > 0.1
    assert model.model._world_model is None, "what was loaded is let go"


def test_a_repository_without_what_predicts_is_skipped_and_says_so(model: TheWorld, tiny: SyntheticCheckpoint) -> None:
    (made,) = check_rollouts(model, str(tiny.cosmos), make_clip(5), seed=0, progress=lambda _: None)
    assert (made.id, made.status) == ("world.rollout", Status.SKIPPED)
    assert "no folder that holds a transformer" in str(made.reason)
    advised = re.findall(r"theworld-validate (\w+) [^,]*?(--\w+)", str(made.reason))
    assert advised == [("synth", "--pipeline"), ("world", "--cosmos")]
    for name, option in advised:
        assert option in invoke(name, "--help").stdout


def test_a_seed_that_is_not_heeded_is_caught(
    model: TheWorld, whole_cosmos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = world_rollout.draw_noise
    monkeypatch.setattr(world_rollout, "draw_noise", lambda shape, n, _seed: draw(shape, n, 0))
    assert codes(model, whole_cosmos, "seed") == ["world.rollout_seed"]


def test_noise_that_no_seed_decides_is_caught(
    model: TheWorld, whole_cosmos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = world_rollout.draw_noise
    monkeypatch.setattr(world_rollout, "draw_noise", lambda *a: draw(*a) + torch.rand(()))
    assert codes(model, whole_cosmos, "seed") == ["world.rollout_not_repeated"]


def _one_step_less(self: Any) -> Any:
    observed, indicator, mask = super(LatentPredict2, self)._observed_mask()
    indicator[:, :, 1:] = 0
    return observed, indicator, mask * indicator


def _flipped_sign(self: Any, *args: Any, **kwargs: Any) -> Any:
    latents = super(LatentPredict2, self).run(*args, **kwargs)
    latents[-1, -1, -1, -1] *= -1
    return latents


@pytest.mark.parametrize(("name", "fault"), [("_observed_mask", _one_step_less), ("run", _flipped_sign)])
def test_another_conditioning_and_one_flipped_sign_are_caught(
    model: TheWorld, whole_cosmos: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: Any
) -> None:
    monkeypatch.setattr(LatentPredict2, name, fault, raising=False)
    assert codes(model, whole_cosmos, "reference") == ["world.rollout_reference"]


def test_statistics_that_are_not_saved_are_caught(tiny: SyntheticCheckpoint, whole_cosmos: Path) -> None:
    own = load_world(SyntheticCheckpoint(gemma=tiny.gemma, cosmos=whole_cosmos))
    own.world_encoder.vae.register_to_config(latents_mean=[0.5] * 16)
    assert codes(own, whole_cosmos, "saved") == ["world.rollout_after_saving"]


def test_a_world_model_among_the_modules_is_caught(
    tiny: SyntheticCheckpoint, whole_cosmos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TheWorldModel.roll_out

    def keep(self: Any, *args: Any, **kwargs: Any) -> Any:
        rolled = original(self, *args, **kwargs)
        self.predictor = self._world_model.pipeline.transformer
        return rolled

    own = load_world(SyntheticCheckpoint(gemma=tiny.gemma, cosmos=whole_cosmos))
    monkeypatch.setattr(TheWorldModel, "roll_out", keep)
    monkeypatch.setattr(TheWorld, "_note_trainable", lambda self: None)
    assert codes(own, whole_cosmos, "outside") == ["world.rollout_in_model"]
    assert codes(own, whole_cosmos, "saved") == ["world.rollout_saved_weights"]


def test_a_transformer_that_overflows_is_a_finding_of_each_check(
    model: TheWorld, whole_cosmos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LatentPredict2.run
    monkeypatch.setattr(LatentPredict2, "run", lambda self, *a, **k: original(self, *a, **k) / 0)
    checks = list(check_rollouts(model, str(whole_cosmos), make_clip(5), seed=0, progress=lambda _: None))
    assert {check.findings[0].code for check in checks} == {"world.refused"}
    assert "numbers that are not finite" in checks[0].findings[0].message
