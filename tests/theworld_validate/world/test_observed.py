"""What is observed: the checks pass on the real path, and each catches a fault that is planted for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.clips import frames as frames_module
from theworld.world_encoder import WorldEncoder
from theworld.world_model import TheWorldModel
from theworld_validate.world.observed import OBSERVED
from theworld_validate.world.path import LoadedPath

CHECKS = {name: check for name, _, check in OBSERVED}


@pytest.fixture
def path(shared_world: TheWorld, processor: TheWorldProcessor) -> LoadedPath:
    return LoadedPath(model=shared_world, processor=processor, clip=make_clip(5), dtype="float32")


def failing(path: LoadedPath) -> dict[str, str]:
    found = {name: check(path)[1] for name, check in CHECKS.items()}
    return {name: findings[0].code for name, findings in found.items() if findings}


@pytest.mark.parametrize("clip", [make_clip(5), make_clip(1), make_clip(1).expand(-1, 5, -1, -1)])
def test_the_real_path_passes(path: LoadedPath, clip: torch.Tensor) -> None:
    """A clip, a picture, and a clip that stands still."""
    outcomes = {
        name: check(LoadedPath(model=path.model, processor=path.processor, clip=clip, dtype="float32"))
        for name, check in CHECKS.items()
    }
    assert {name: findings for name, (_, findings) in outcomes.items() if findings} == {}
    assert outcomes["time"][0]["max_abs_logit_difference"] > 1e-4
    assert outcomes["latents"][0]["max_abs_logit_difference"] == 0.0
    assert outcomes["first_step"][0]["max_relative_difference"] < 1e-5
    assert outcomes["image"][0]["compared"] == 4


Encode = Callable[[WorldEncoder, torch.Tensor], torch.Tensor]
ENCODE = WorldEncoder.forward


def looks_ahead(self: WorldEncoder, frames: torch.Tensor) -> torch.Tensor:
    """Every step sees the mean of all, as attention over time without a mask would."""
    latents = ENCODE(self, frames)
    return latents + latents.mean(2, keepdim=True)


def sees_the_end(self: WorldEncoder, frames: torch.Tensor) -> torch.Tensor:
    """The second step sees the last frame."""
    latents = ENCODE(self, frames)
    return torch.cat([latents[:, :, :1], latents[:, :, 1:] + frames[:, :1, -1:].mean()], dim=2)


def forgets_time(self: WorldEncoder, frames: torch.Tensor) -> torch.Tensor:
    """Each step is that of the clip forwards and backwards."""
    return ENCODE(self, frames) + ENCODE(self, frames.flip(2))


@pytest.mark.parametrize(
    ("encode", "expected"),
    [
        (looks_ahead, {"first_step": "world.first_step", "padding": "world.padding"}),
        (sees_the_end, {"padding": "world.padding"}),
        (forgets_time, {"first_step": "world.first_step", "padding": "world.padding", "time": "world.time"}),
    ],
)
def test_an_encoder_that_mixes_times_is_caught(
    path: LoadedPath, monkeypatch: pytest.MonkeyPatch, encode: Encode, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(WorldEncoder, "forward", encode)
    assert failing(path) == expected


def test_padding_that_is_kept_is_caught(path: LoadedPath, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TheWorldModel.get_world_features
    monkeypatch.setattr(TheWorldModel, "get_world_features", lambda self, frames, *_: original(self, frames))
    assert CHECKS["padding"](path)[1][0].code == "world.padding"


def test_latents_that_are_normalised_twice_are_caught(path: LoadedPath, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TheWorldModel.get_world_features

    def twice(self: TheWorldModel, frames: Any, numbers: Any = None, latents: Any = None, *rest: Any) -> torch.Tensor:
        return original(self, frames, numbers, None if latents is None else latents / 2, *rest)

    monkeypatch.setattr(TheWorldModel, "get_world_features", twice)
    assert failing(path) == {"latents": "world.latents"}


def test_pictures_in_another_order_of_colours_are_caught(path: LoadedPath, monkeypatch: pytest.MonkeyPatch) -> None:
    original = frames_module._from_pictures

    def swapped(pictures: Any, rules: Any) -> Any:
        return original([Image.merge("RGB", picture.split()[::-1]) for picture in pictures], rules)

    monkeypatch.setattr(frames_module, "_from_pictures", swapped)
    findings = CHECKS["image"](path)[1]
    assert [finding.message.partition(" becomes")[0] for finding in findings] == ["a PIL image", "a list of one"]
