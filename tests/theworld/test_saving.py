"""What a save does to its folder, and what comes back of a model: freeze stage, dtype, rows, missing keys."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageTextToText

from tests.conftest import load_world
from tests.theworld.test_loading import assert_equal_bits
from theworld import FreezeConfig, TheWorld, TheWorldProcessor
from theworld.partial_checkpoint import whole_weights
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_model import TheWorldModel

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


def test_files_that_no_loader_opens_are_no_weights(world: TheWorld, tmp_path: Path) -> None:
    opened = [
        *("model.safetensors", "model.fp16.safetensors", "model-00001-of-00002.safetensors"),
        *("model.fp16-00001-of-00002.safetensors", "model.safetensors.index.json", "model.safetensors.index.fp16.json"),
        "adapter_model.safetensors",
    ]
    others = ["model.safetensors.bak", "model.safetensors.index.json.old", "my_model.safetensors", "models.safetensors"]
    for name in (*opened, *others):
        (tmp_path / name).write_bytes(b"")
    assert whole_weights(tmp_path) == sorted(opened)
    for name in opened:
        (tmp_path / name).unlink()
    world.save_pretrained(tmp_path, trainable_only=True)
    assert_equal_bits(TheWorld.from_pretrained(tmp_path), world)


def test_a_file_of_the_users_own_stays(world: TheWorld, tmp_path: Path) -> None:
    (tmp_path / "trainable.safetensors").write_bytes(b"the user's")
    world.save_pretrained(tmp_path)
    assert "trainable.safetensors" in names(tmp_path)


def trainable(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_model_in_which_nothing_trains_comes_back_able_to_train(world: TheWorld, tmp_path: Path) -> None:
    """As inference, or a merged adapter, leaves it; what `set_freeze` froze is another thing."""
    stage = trainable(world)
    world.requires_grad_(False)
    world.save_pretrained(tmp_path / "by hand")
    assert trainable(TheWorld.from_pretrained(tmp_path / "by hand")) == stage
    world.set_freeze(FreezeConfig(trainable=()))
    world.save_pretrained(tmp_path / "by stage")
    assert not trainable(TheWorld.from_pretrained(tmp_path / "by stage"))


def test_a_frozen_gemma_comes_back_as_gemma_does(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    off = TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.float32)
    off.requires_grad_(False)
    off.save_pretrained(tmp_path)
    loaded = TheWorld.from_pretrained(tmp_path)
    assert loaded.config.trainable_components is None
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("asked", [{}, {"dtype": "auto"}, {"torch_dtype": None}, {"output_loading_info": True}])
def test_a_trainable_only_checkpoint_comes_back_in_its_dtype(
    shared_world: TheWorld, tmp_path: Path, asked: dict[str, Any]
) -> None:
    shared_world.save_pretrained(tmp_path, trainable_only=True)
    loaded = TheWorld.from_pretrained(tmp_path, **asked)
    if asked.get("output_loading_info"):
        loaded, told = loaded
        assert not any(told.values())
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.world_projection.linear.weight, shared_world.world_projection.linear.weight)


def test_the_dtype_that_comes_back_is_the_saved_models(world: TheWorld, tmp_path: Path) -> None:
    world.to(torch.float16).save_pretrained(tmp_path, trainable_only=True)
    assert TheWorld.from_pretrained(tmp_path).dtype == torch.float16
    assert TheWorld.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": "int64"}))
    with pytest.raises(ValueError, match=r"config.json: dtype is 'int64'; it must be a floating-point dtype"):
        TheWorld.from_pretrained(tmp_path)


@pytest.mark.parametrize("freeze", ["projection", "language"])
def test_a_trainable_only_folder_loads_without_its_head(tiny: SyntheticCheckpoint, tmp_path: Path, freeze: str) -> None:
    world = load_world(tiny, freeze=freeze)
    with torch.no_grad():
        for parameter in world.parameters():
            parameter.add_(1.0 if parameter.requires_grad else 0.0)
    world.save_pretrained(tmp_path, trainable_only=True)
    inner = AutoModel.from_pretrained(tmp_path)
    assert type(inner) is TheWorldModel
    assert_equal_bits(inner, world.model)
    inner.save_pretrained(tmp_path / "inner", trainable_only=True)
    assert_equal_bits(TheWorld.from_pretrained(tmp_path / "inner"), world)
    # A head that was trained by itself is nothing to a model without one.
    weights = load_file(tmp_path / "trainable.safetensors")
    save_file({**weights, "lm_head.weight": torch.zeros(1)}, tmp_path / "trainable.safetensors")
    base = json.loads((tmp_path / "theworld_base.json").read_text())
    base["tensors"]["lm_head.weight"] = "F32 [1]"
    (tmp_path / "theworld_base.json").write_text(json.dumps(base))
    assert_equal_bits(AutoModel.from_pretrained(tmp_path), world.model)
    with pytest.raises(ValueError, match=r"the model has no parameter lm_head\.weight"):
        TheWorld.from_pretrained(tmp_path)


def test_a_subfolder_holds_a_trainable_only_checkpoint_and_a_processor(
    shared_world: TheWorld, processor: TheWorldProcessor, tmp_path: Path
) -> None:
    shared_world.save_pretrained(tmp_path / "sub", trainable_only=True)
    for auto in (TheWorld, AutoModelForImageTextToText):
        assert_equal_bits(auto.from_pretrained(tmp_path, subfolder="sub"), shared_world)
    processor.save_pretrained(tmp_path / "sub")
    for folder, size in ((tmp_path / "sub", 64), (tmp_path, 48)):  # the model's in the folder itself is another's
        config = json.loads((tmp_path / "sub" / "config.json").read_text())
        config["world_config"]["frame_size"] = size
        (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((tmp_path / "sub" / "processor_config.json").read_text())
    del settings["frame_size"]
    (tmp_path / "sub" / "processor_config.json").write_text(json.dumps(settings))
    assert TheWorldProcessor.from_pretrained(tmp_path, subfolder="sub").frame_size == 64


def test_rows_that_would_not_come_back_are_refused(world: TheWorld, tmp_path: Path) -> None:
    for rows in ({"new_num_tokens": 1026}, {"new_num_tokens": 1000, "pad_to_multiple_of": 4}):
        with pytest.raises(ValueError, match=r"the world branch's tokens need 1,027 rows of embeddings, got 1,0"):
            world.resize_token_embeddings(**rows)
    assert world.get_input_embeddings().num_embeddings == 1027
    world.resize_token_embeddings(1025, pad_to_multiple_of=64, mean_resizing=False)
    assert world.get_input_embeddings().num_embeddings == 1088
    world.resize_token_embeddings(1030, mean_resizing=False)
    with pytest.raises(ValueError, match=r"resized to 1,030 rows, and the base gives back 1,027; save the model whole"):
        world.save_pretrained(tmp_path / "part", trainable_only=True)
    assert not (tmp_path / "part").exists()
    world.save_pretrained(tmp_path / "whole")
    loaded = TheWorld.from_pretrained(tmp_path / "whole")
    assert_equal_bits(loaded, world)
    loaded.resize_token_embeddings(1029, mean_resizing=False)
    with pytest.raises(ValueError, match=r"resized to 1,029 rows, and the base gives back 1,030"):
        loaded.save_pretrained(tmp_path / "part", trainable_only=True)


def test_the_loading_info_names_what_is_fresh(tiny: SyntheticCheckpoint) -> None:
    _, told = load_world(tiny, output_loading_info=True)
    fresh = {"world_projection.linear.weight", "world_projection.linear.bias", "temporal_embedding.embedding.weight"}
    assert told["missing_keys"] == {f"model.{name}" for name in fresh}


def test_an_offloaded_model_loses_nothing_silently(
    tiny: SyntheticCheckpoint, shared_world: TheWorld, tmp_path: Path
) -> None:
    to_disk = {"device_map": "auto", "max_memory": {"cpu": "300KB"}, "offload_folder": str(tmp_path / "offloaded")}
    with pytest.raises(ValueError, match=r"load without device_map, save_pretrained to a folder, and load that"):
        load_world(tiny, **to_disk)
    shared_world.save_pretrained(tmp_path / "whole")
    on_disk = {"device_map": {"model": "disk", "lm_head": "disk"}, "offload_folder": str(tmp_path / "offloaded")}
    loaded = TheWorld.from_pretrained(tmp_path / "whole", **on_disk)
    with pytest.raises(ValueError, match=r"trains, and device_map offloads it; save the model whole"):
        loaded.save_pretrained(tmp_path / "part", trainable_only=True)
    TheWorld.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "part", trainable_only=True)
    with pytest.raises(ValueError, match=r"was trained, and device_map offloads it; load the checkpoint without dev"):
        TheWorld.from_pretrained(tmp_path / "part", **on_disk)
