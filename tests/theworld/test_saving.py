"""Saving into a folder that holds another checkpoint, and what a save leaves of a model's settings."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from tests.theworld.test_loading import assert_equal_bits
from theworld import TheWorld

TRAINABLE = {"theworld_base.json", "trainable.safetensors"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_save_replaces_a_trainable_only_one(world: TheWorld, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path, trainable_only=True)
    assert names(tmp_path) > TRAINABLE
    with torch.no_grad():
        world.world_projection.linear.weight.add_(1.0)
        world.get_input_embeddings().weight.add_(1.0)
    world.save_pretrained(tmp_path, is_main_process=False)
    assert names(tmp_path) > TRAINABLE  # another process writes the weights
    killed = patch("theworld.partial_checkpoint.remove_trainable", side_effect=KeyboardInterrupt)
    with killed, pytest.raises(KeyboardInterrupt):
        world.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds model.safetensors and a trainable-only checkpoint; remove the one"):
        TheWorld.from_pretrained(tmp_path)
    world.save_pretrained(tmp_path)
    assert not names(tmp_path) & TRAINABLE
    assert_equal_bits(TheWorld.from_pretrained(tmp_path), world)


@pytest.mark.parametrize("saving", [{}, {"max_shard_size": "300KB"}, {"variant": "fp32"}])
def test_a_trainable_only_save_leaves_whole_weights_alone(
    world: TheWorld, tmp_path: Path, saving: dict[str, str]
) -> None:
    world.save_pretrained(tmp_path, **saving)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"holds model.*, whose config.json would be replaced; save with") as caught:
        world.save_pretrained(tmp_path, trainable_only=True)
    assert str(caught.value).startswith(str(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_of_the_users_own_stays(world: TheWorld, tmp_path: Path) -> None:
    (tmp_path / "trainable.safetensors").write_bytes(b"the user's")
    world.save_pretrained(tmp_path)
    assert "trainable.safetensors" in names(tmp_path)
