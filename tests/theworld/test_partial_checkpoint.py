"""Trainable-only checkpoints: small, bit-identical, and bound to their base."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import load_world
from tests.theworld.test_loading import assert_equal_bits
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint


@pytest.fixture
def saved(tiny: SyntheticCheckpoint, tmp_path: Path) -> tuple[TheWorld, Path]:
    """A trained model, and the folder of its trainable parameters; its base is a copy."""
    base = SyntheticCheckpoint(
        gemma=Path(shutil.copytree(tiny.gemma, tmp_path / "base" / "gemma")),
        cosmos=Path(shutil.copytree(tiny.cosmos, tmp_path / "base" / "cosmos")),
    )
    world = load_world(base)
    with torch.no_grad():
        world.world_projection.linear.weight.add_(1.0)
    world.save_pretrained(tmp_path / "trained", trainable_only=True)
    return world, tmp_path / "trained"


def test_round_trip_is_bit_identical_and_small(saved: tuple[TheWorld, Path]) -> None:
    world, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["theworld_base.json", "trainable.safetensors"]
    trainable, total, _ = world.get_trainable_parameters()
    assert (folder / "trainable.safetensors").stat().st_size < 4 * trainable + 1000 < total
    loaded = TheWorld.from_pretrained(folder, dtype=torch.float32)
    assert_equal_bits(loaded, world)
    assert loaded.world_config == world.world_config
    assert loaded.get_trainable_parameters() == world.get_trainable_parameters()


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("gemma/model-00002-of-00004.safetensors", "base checkpoint"),
        ("cosmos/vae/diffusion_pytorch_model.safetensors", "Cosmos VAE"),
    ],
)
def test_another_base_is_refused(saved: tuple[TheWorld, Path], file: str, what: str) -> None:
    _, folder = saved
    path = folder.parent / "base" / file
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=f"trained on a {what} with digest"):
        TheWorld.from_pretrained(folder, dtype=torch.float32)


def test_it_brings_its_own_settings(saved: tuple[TheWorld, Path], tiny: SyntheticCheckpoint) -> None:
    _, folder = saved
    with pytest.raises(ValueError, match="brings its own base"):
        TheWorld.from_pretrained(folder, cosmos_model_name_or_path=str(tiny.cosmos))


def test_damaged_files_are_value_errors(saved: tuple[TheWorld, Path]) -> None:
    _, folder = saved
    base = folder / "theworld_base.json"
    values = json.loads(base.read_text())
    base.write_text(json.dumps({**values, "schema": "other/1"}))
    with pytest.raises(ValueError, match="field schema is not 'theworld-trainable/1'"):
        TheWorld.from_pretrained(folder)
    base.write_text(json.dumps({k: v for k, v in values.items() if k != "digest"}))
    with pytest.raises(ValueError, match="missing field digest"):
        TheWorld.from_pretrained(folder)
    base.write_text(json.dumps(values))
    weights = folder / "trainable.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"trainable.safetensors: truncated"):
        TheWorld.from_pretrained(folder)


def test_weights_of_another_configuration_are_refused(saved: tuple[TheWorld, Path]) -> None:
    _, folder = saved
    base = folder / "theworld_base.json"
    values = json.loads(base.read_text())
    base.write_text(json.dumps({**values, "world": {**values["world"], "max_world_steps": 9}}))
    with pytest.raises(
        ValueError, match=r"temporal_embedding.embedding.weight is \(4, 128\), the model's is \(9, 128\)"
    ):
        TheWorld.from_pretrained(folder)
    base.write_text(json.dumps({**values, "world": {**values["world"], "use_temporal_embedding": False}}))
    with pytest.raises(ValueError, match="has no parameter temporal_embedding"):
        TheWorld.from_pretrained(folder)


def test_nothing_to_save_is_a_value_error(world: TheWorld, tmp_path: Path) -> None:
    world.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        world.save_pretrained(tmp_path / "x", trainable_only=True)
    world.world_projection.linear.bias.requires_grad_(True)
    with pytest.raises(ValueError, match="only a part of world_projection is trainable"):
        world.save_pretrained(tmp_path / "x", trainable_only=True)
    assert not (tmp_path / "x").exists()
