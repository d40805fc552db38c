"""Freezing: presets, flags, and errors for what contradicts itself."""

import re
from typing import Any

import pytest

from tests.conftest import load_world
from theworld import FreezeConfig, TheWorld
from theworld.components import count_parameters
from theworld.freezing import PRESETS, resolve_freeze
from theworld.synthetic import SyntheticCheckpoint


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "documented"])
def test_a_preset_trains_its_components_and_no_other(world: TheWorld, preset: str) -> None:
    world.set_freeze(preset)
    for count in count_parameters(world):
        expected = count.total if count.name in PRESETS[preset].trainable else 0
        assert count.trainable == expected, count.name


def test_the_documented_preset_has_no_temporal_embedding(tiny: SyntheticCheckpoint, world: TheWorld) -> None:
    documented = load_world(tiny, freeze="documented")
    assert documented.temporal_embedding is None
    assert {c.name for c in count_parameters(documented) if c.trainable} == set(PRESETS["documented"].trainable)
    with pytest.raises(ValueError, match="describes a model without a temporal embedding"):
        world.set_freeze("documented")


def test_flags_are_shorthands() -> None:
    assert resolve_freeze(freeze_gemma_vision=True) == PRESETS["projection"]
    assert resolve_freeze(freeze_gemma_vision=False) == PRESETS["vision"]
    assert resolve_freeze(freeze_gemma_language=False, freeze_cosmos_vae=True) == PRESETS["language"]
    assert (
        resolve_freeze(freeze_gemma_vision=False, freeze_gemma_language=False, freeze_cosmos_vae=False)
        == PRESETS["full"]
    )
    assert resolve_freeze() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"freeze": "projections"}, "no freeze preset is named 'projections'"),
        ({"freeze": "vision", "freeze_gemma_vision": True}, "say the same thing twice"),
        ({"freeze_cosmos_vae": "yes"}, "freeze_cosmos_vae must be True or False, got 'yes'"),
    ],
)
def test_contradictions_are_value_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_freeze(**arguments)


def test_an_unknown_component_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no component is named decoder"):
        FreezeConfig(trainable=("decoder",))


def test_set_freeze_needs_something(world: TheWorld) -> None:
    with pytest.raises(ValueError, match="got None"):
        world.set_freeze(None)
