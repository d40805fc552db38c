"""Configuration: validated fields, adoption of a Gemma 3 config, and the JSON round trip."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, Gemma3Config

from theworld import TheWorld, TheWorldConfig, WorldConfig
from theworld.synthetic import SyntheticCheckpoint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame_size": 100}, "multiple of 8, got 100; 96 or 104 would do"),
        ({"frame_size": "224"}, "frame_size must be a positive whole number, got '224'"),
        ({"frame_size": True}, "frame_size must be a positive whole number, got True"),
        ({"max_world_steps": 0}, "max_world_steps must be a positive whole number"),
        ({"use_temporal_embedding": 1}, "must be true or false, got 1"),
        ({"world_token": ""}, "world_token must be a token's text"),
        ({"world_token_id": 262_145}, "must be different whole numbers"),
        ({"vae_config": {"z_dim": 48}}, "vae_config: latents_mean is missing; write its 48 numbers"),
        ({"vae_config": None}, "vae_config must be a dictionary"),
        ({"frame_sise": 224}, "no field frame_sise"),
    ],
)
def test_wrong_world_field_is_a_value_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        WorldConfig.from_dict({"vae_config": {}, **fields})


def test_vae_config_is_required() -> None:
    with pytest.raises(ValueError, match="vae_config is missing"):
        WorldConfig.from_dict({})


def test_tokens_per_step_is_the_documented_784_at_the_default_size() -> None:
    assert WorldConfig(vae_config={}).tokens_per_step() == 784


def test_round_trip(tmp_path: Path) -> None:
    config = TheWorldConfig(world_config={"vae_config": {"z_dim": 16}, "frame_size": 64})
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, TheWorldConfig)
    assert loaded.world_config == config.world_config
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()


def test_gemma_values_are_taken_over(tiny: SyntheticCheckpoint) -> None:
    ours, theirs = TheWorldConfig.from_pretrained(tiny.gemma), Gemma3Config.from_pretrained(tiny.gemma)
    ours_dict, theirs_dict = ours.to_dict(), theirs.to_dict()
    assert ours.world_config is None
    assert ours_dict.pop("model_type") == "theworld"
    assert theirs_dict.pop("model_type") == "gemma3"
    assert ours_dict == theirs_dict


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="model_type is 'llama', and TheWorld is built on 'gemma3'"):
        TheWorldConfig.from_pretrained(tmp_path)


def test_a_dictionary_of_world_settings_becomes_a_config(shared_world: TheWorld) -> None:
    """As `update` sets one: the model that was built of it was a plain Gemma 3."""
    config = copy.deepcopy(shared_world.config)
    config.update({"world_config": {**config.to_dict()["world_config"], "max_world_steps": 3}})
    assert isinstance(config.world_config, WorldConfig)
    with torch.device("meta"):
        built = TheWorld(config)
    assert built.temporal_embedding.embedding.num_embeddings == 3
    with pytest.raises(ValueError, match="world_config has no field frame_sise"):
        config.world_config = {"vae_config": {}, "frame_sise": 3}


def test_auto_map_is_there_to_ask_for_and_saved_only_where_it_was_set(
    tiny: SyntheticCheckpoint, tmp_path: Path
) -> None:
    config = TheWorldConfig.from_pretrained(tiny.gemma)
    assert config.auto_map == {}
    assert "auto_map" not in config.to_dict()
    assert config == TheWorldConfig.from_pretrained(tiny.gemma)
    config.auto_map["AutoModel"] = "code.Model"  # as transformers does where it saves code beside a model
    config.save_pretrained(tmp_path)
    assert TheWorldConfig.from_pretrained(tmp_path).auto_map == {"AutoModel": "code.Model"}
