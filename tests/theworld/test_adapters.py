"""A folder that holds an adapter loads as transformers loads one: its base, and the adapter on it."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.conftest import load_world, make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint

LAYERS = {"target_modules": ["q_proj", "v_proj"], "r": 2, "init_lora_weights": False}


def run(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits


def add_adapter(model: TheWorld, **settings: Any) -> TheWorld:
    from peft import LoraConfig

    model.add_adapter(LoraConfig(**{**LAYERS, **settings}))
    return model


@pytest.fixture(scope="module")
def inputs(processor: TheWorldProcessor) -> Any:
    return processor(text="<start_of_world>hello", world_frames=make_clip(), return_tensors="pt")


@pytest.fixture(scope="module")
def whole(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    load_world(tiny).save_pretrained(folder)
    return folder


def test_an_adapters_folder_loads_with_its_base(whole: Path, tmp_path: Path, inputs: Any) -> None:
    model = add_adapter(TheWorld.from_pretrained(whole))
    expected = run(model, inputs)
    assert not torch.equal(run(TheWorld.from_pretrained(whole), inputs), expected)
    model.save_pretrained(tmp_path / "sub")
    assert not (tmp_path / "sub" / "config.json").exists()
    for auto in (TheWorld, AutoModelForImageTextToText):
        loaded = auto.from_pretrained(tmp_path / "sub")
        assert type(loaded) is TheWorld
        assert torch.equal(run(loaded, inputs), expected)
    loaded, told = TheWorld.from_pretrained(tmp_path, subfolder="sub", output_loading_info=True, adapter_name="one")
    assert loaded.active_adapters() == ["one"]
    assert not any(told.values())


def test_an_adapter_of_gemma_asks_for_its_branch(
    tiny: SyntheticCheckpoint, tmp_path: Path, inputs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = add_adapter(load_world(tiny), target_modules=["q_proj", "linear"])  # of the branch too
    expected = run(model, inputs)
    with caplog.at_level(logging.WARNING, "theworld"):
        model.save_pretrained(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}: holds the adapter alone, and its base {tiny.gemma} has no world branch: the Auto classes load it "
        "without one; before an adapter is added, save the model whole and load it from there"
    ]
    with pytest.raises(ValueError, match=r"has no world branch; name a Cosmos .* or pass enable_world=False"):
        TheWorld.from_pretrained(tmp_path)
    again = SyntheticCheckpoint(gemma=tmp_path, cosmos=tiny.cosmos)
    assert torch.equal(run(load_world(again), inputs), expected)
    with pytest.raises(ValueError, match=r"unexpected key"):
        TheWorld.from_pretrained(tmp_path, enable_world=False)


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def pickle_instead(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (pickle_instead, "holds adapter_model.bin, a pickle, which is never opened"),
    "no base": (lambda folder: edit(folder, base_model_name_or_path=None), "base_model_name_or_path is None; it must"),
    "other base": (lambda folder: edit(folder, base_model_name_or_path="/nowhere"), "/nowhere"),
}


def test_a_damaged_adapter_is_one_line(whole: Path, tmp_path: Path) -> None:
    add_adapter(TheWorld.from_pretrained(whole)).save_pretrained(tmp_path / "good")
    for name, (damage, message) in DAMAGE.items():
        folder = Path(shutil.copytree(tmp_path / "good", tmp_path / name))
        damage(folder)
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            TheWorld.from_pretrained(folder)
        assert str(caught.value).isprintable()


def test_an_adapter_is_not_saved_over_what_was_trained(world: TheWorld, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path, trainable_only=True)
    with pytest.raises(ValueError, match=r"holds a trainable-only checkpoint; save the adapter elsewhere"):
        add_adapter(world).save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
