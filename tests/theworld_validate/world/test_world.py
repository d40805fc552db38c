"""The world check: passes on the real path, and catches a planted fault in each of its first four parts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_clip
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_model import TheWorldModel
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET
from theworld_validate.world.check import WorldPath, check_world


def run(tiny: SyntheticCheckpoint, **options: Any) -> dict[str, CheckResult]:
    subject = Subject(
        target=CANDIDATE_TARGET,
        checkpoint=str(tiny.gemma),
        cosmos=str(tiny.cosmos),
        **{"dtype": "float32", **options},
    )
    return {check.id: check for check in check_world(subject)}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_real_path_passes(tiny: SyntheticCheckpoint, dtype: str) -> None:
    checks = run(tiny, dtype=dtype)
    rollout = checks.pop("world.rollout")
    assert rollout.status is Status.SKIPPED
    assert "no folder that holds a transformer" in str(rollout.reason)
    assert {check.status for check in checks.values()} == {Status.PASSED}
    assert list(checks) == [
        f"world.{name}"
        for name in ("tokens", "effect", "gradients", "batch", "image", "first_step", "padding", "time", "latents")
    ]
    assert checks["world.tokens"].measurements["world_tokens"] == 128
    assert checks["world.effect"].measurements["max_abs_logit_difference"] > 0
    assert checks["world.gradients"].measurements["parameters_with_gradient"] == 3


def failing(checks: dict[str, CheckResult]) -> dict[str, str]:
    return {id_: check.findings[0].code for id_, check in checks.items() if check.status is Status.FAILED}


def test_lost_world_tokens_are_caught(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TheWorldModel.get_world_features
    monkeypatch.setattr(TheWorldModel, "get_world_features", lambda self, *a: original(self, *a) * 0)
    assert failing(run(tiny)) == {
        "world.effect": "world.no_effect",
        "world.gradients": "world.no_gradient",
        "world.padding": "world.padding",
        "world.time": "world.time",
    }


def test_a_leaking_gradient_is_caught(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TheWorld, "set_freeze", lambda self, freeze: self.requires_grad_(True))
    assert failing(run(tiny)) == {"world.gradients": "world.gradient_leak"}


def test_overflow_is_caught(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TheWorldModel.get_world_features
    monkeypatch.setattr(TheWorldModel, "get_world_features", lambda self, *a: original(self, *a) / 0)
    assert failing(run(tiny))["world.tokens"] == "world.non_finite"


def test_a_token_too_few_is_caught_and_what_the_model_refuses_is_a_finding(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TheWorldModel.get_world_features
    monkeypatch.setattr(TheWorldModel, "get_world_features", lambda self, *a: original(self, *a)[1:])
    found = failing(run(tiny))
    assert found["world.tokens"] == "world.token_count"
    assert found["world.effect"] == "world.refused"


def test_a_check_that_raises_is_one_error_and_the_others_stand(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> Any:
        raise RuntimeError("planted\nhere")

    monkeypatch.setattr(WorldPath, "effect", fail)
    checks = run(tiny)
    effect = checks["world.effect"]
    assert (effect.status, effect.reason) == (Status.ERROR, "RuntimeError: planted here")
    assert checks["world.latents"].status is Status.PASSED


def test_rows_that_reach_each_other_are_caught(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TheWorldModel.get_world_features

    monkeypatch.setattr(TheWorldModel, "get_world_features", lambda self, *a: original(self, *a).flip(0))
    assert failing(run(tiny))["world.batch"] == "world.batch"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (make_clip(5).numpy() * 255, r"clip.npy: world_frames must be in \[-1, 1\], got \[-255.0"),
        (np.zeros((3, 1, 8, 8), dtype=np.int32), "must be uint8, or floating point in"),
        (np.array([{}], dtype=object), "no clip of numbers that can be read"),
        (None, "clip.npy: missing"),
    ],
)
def test_a_wrong_clip_is_an_input_error(
    tiny: SyntheticCheckpoint, shared_world: TheWorld, tmp_path: Path, array: Any, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Subject, "load", lambda self: shared_world)
    if array is not None:
        np.save(tmp_path / "clip.npy", array, allow_pickle=True)
    subject = Subject(target=CANDIDATE_TARGET, checkpoint=str(tiny.gemma), cosmos=str(tiny.cosmos), dtype="float32")
    with pytest.raises(InputError, match=message) as caught:
        list(check_world(subject, frames=tmp_path / "clip.npy"))
    assert "\n" not in str(caught.value)
