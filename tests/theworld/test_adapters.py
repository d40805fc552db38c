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
    loaded, told = load_world(again, output_loading_info=True)
    assert torch.equal(run(loaded, inputs), expected)
    assert told["missing_keys"] == {  # of the base, and not of the adapter
        "model.world_projection.linear.weight",
        "model.world_projection.linear.bias",
        "model.temporal_embedding.embedding.weight",
    }
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
    "other rank": (
        lambda folder: edit(folder, r=4),
        "keys of another shape (model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight, ",
    ),
    "other layers": (lambda folder: edit(folder, target_modules=["no_such"]), "no_such"),
    "no kind": (lambda folder: edit(folder, peft_type="NONE"), "NONE"),
    "other base": (lambda folder: edit(folder, base_model_name_or_path="/nowhere"), "/nowhere"),
}


def test_a_damaged_adapter_is_one_line(whole: Path, tmp_path: Path) -> None:
    add_adapter(TheWorld.from_pretrained(whole)).save_pretrained(tmp_path / "good")
    for name, (damage, message) in DAMAGE.items():
        folder = Path(shutil.copytree(tmp_path / "good", tmp_path / name))
        damage(folder)
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            TheWorld.from_pretrained(folder)
        assert str(caught.value).isprintable(), name
        assert str(caught.value).startswith("/nowhere" if name == "other base" else str(folder)), name


def test_an_adapter_is_not_saved_over_what_was_trained(world: TheWorld, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path, trainable_only=True)
    with pytest.raises(ValueError, match=r"holds a trainable-only checkpoint; save the adapter elsewhere"):
        add_adapter(world).save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()


# Of the hub, and of a subfolder

COMMIT = "0" * 40


@pytest.fixture(scope="module")
def adapter(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    add_adapter(TheWorld.from_pretrained(whole)).save_pretrained(folder)
    return folder


@pytest.fixture
def pickled(adapter: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(adapter, tmp_path / "pickled"))
    pickle_instead(folder)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put folders into a hub's cache, as one repository; nothing else is to be had."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache = tmp_path / "hub"

    def put(name: str, *folders: Path) -> Path:
        repository = cache / f"models--{name.replace('/', '--')}"
        for folder in folders:
            shutil.copytree(folder, repository / "snapshots" / COMMIT, dirs_exist_ok=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        return cache

    return put


def test_an_adapter_of_the_hub_is_found_as_the_call_says(
    whole: Path, adapter: Path, pickled: Path, hub: Callable[..., Path], inputs: Any
) -> None:
    cache = hub("some/adapter", adapter)
    hub("some/pickle", pickled)
    found = {"cache_dir": str(cache), "local_files_only": True}
    loaded = TheWorld.from_pretrained(whole, adapter_kwargs={"_adapter_model_path": "some/adapter"}, **found)
    assert torch.equal(run(loaded, inputs), run(TheWorld.from_pretrained(adapter), inputs))
    with pytest.raises(ValueError, match=r"^some/pickle: no adapter as safetensors .* is never opened") as raised:
        TheWorld.from_pretrained(whole, adapter_kwargs={"_adapter_model_path": "some/pickle"}, **found)
    assert str(raised.value).isprintable()


def test_no_way_to_an_adapter_opens_a_pickle(
    whole: Path, pickled: Path, hub: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: opened.append(args))
    cache = hub("some/both", whole, pickled)  # a whole model and an adapter: transformers itself loads the two
    both = Path(shutil.copytree(whole, tmp_path / "both"))
    shutil.copytree(pickled, both / "sub")
    model = TheWorld.from_pretrained(whole)
    for load in (
        lambda: TheWorld.from_pretrained("some/both", cache_dir=str(cache)),
        lambda: TheWorld.from_pretrained(both, adapter_kwargs={"subfolder": "sub"}),
        lambda: AutoModelForImageTextToText.from_pretrained(both, adapter_kwargs={"subfolder": "sub"}),
        lambda: model.load_adapter(str(pickled)),
        lambda: model.load_adapter(str(both), adapter_kwargs={"subfolder": "sub"}),
        lambda: model.load_adapter("some/both", adapter_kwargs={"cache_dir": str(cache)}),
    ):
        with pytest.raises(ValueError, match=r"a pickle(, which)? is never opened"):
            load()
    assert not opened


def test_an_adapter_in_a_subfolder_of_its_model(whole: Path, adapter: Path, tmp_path: Path, inputs: Any) -> None:
    both = Path(shutil.copytree(whole, tmp_path / "both"))
    shutil.copytree(adapter, both / "sub")
    loaded = TheWorld.from_pretrained(both, adapter_kwargs={"subfolder": "sub"})
    assert torch.equal(run(loaded, inputs), run(TheWorld.from_pretrained(adapter), inputs))


def test_an_adapter_of_a_gemma_of_the_hub_asks_for_its_branch(
    tiny: SyntheticCheckpoint, adapter: Path, hub: Callable[..., Path], tmp_path: Path
) -> None:
    cache = hub("some/gemma", tiny.gemma)
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    edit(folder, base_model_name_or_path="some/gemma")
    with pytest.raises(ValueError, match=r"whose base some/gemma has no world branch; name a Cosmos"):
        TheWorld.from_pretrained(folder, cache_dir=str(cache))


def test_an_adapter_on_a_trainable_only_folder_names_that(
    world: TheWorld, adapter: Path, tmp_path: Path, inputs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.no_grad():
        world.world_projection.linear.weight.add_(1.0)
    world.save_pretrained(tmp_path / "trained", trainable_only=True)
    model = add_adapter(TheWorld.from_pretrained(tmp_path / "trained"))
    expected = run(model, inputs)
    with caplog.at_level(logging.WARNING, "theworld"):
        model.save_pretrained(tmp_path / "adapter")
    assert not caplog.messages
    assert torch.equal(run(TheWorld.from_pretrained(tmp_path / "adapter"), inputs), expected)
    other = TheWorld.from_pretrained(tmp_path / "trained")
    other.load_adapter(str(adapter))  # which names another base: what was trained would be lost
    with pytest.raises(ValueError, match=r"lacks what the model was loaded with .*; save the model whole first"):
        other.save_pretrained(tmp_path / "lost")
    assert not (tmp_path / "lost").exists()
