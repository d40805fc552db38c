"""Weight files: what transformers and diffusers would open, what is shadowed, and no pickle ever."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from theworld import TheWorld
from theworld.checkpoints.checkpoint_files import check_safetensors_folder
from theworld.checkpoints.weight_files import check_adapter_files, resolve_weight_files
from theworld.synthetic import SyntheticCheckpoint

INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00004.safetensors"
PAYLOAD = b"cos\nsystem\n(S'touch /tmp/theworld-was-here'\ntR."


def remove_weights(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()


def edit_map(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    edit(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def set_first(value: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        edit_map(folder, lambda weight_map: weight_map.update({next(iter(weight_map)): value}))

    return damage


def without_metadata(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({"weight_map": index["weight_map"]}))


def outside(folder: Path) -> None:
    (folder.parent / "outside.safetensors").write_bytes((folder / SHARD).read_bytes())
    set_first("../outside.safetensors")(folder)


INDEXES: dict[str, tuple[Callable[[Path], object], str]] = {
    "ix-traversal": (outside, "is ../outside.safetensors, not the name of a safetensors file beside it"),
    "ix-absolute": (set_first("/etc/passwd.safetensors"), "not the name of a safetensors file beside it"),
    "ix-backslash": (set_first("a\\b.safetensors"), "not the name of a safetensors file beside it"),
    "ix-map-mixed": (set_first(5), "is 5, not the name of a safetensors file beside it"),
    "ix-map-null": (set_first(None), "is None, not the name of a safetensors file beside it"),
    "ix-map-listval": (set_first(["a"]), "is ['a'], not the name of a safetensors file beside it"),
    "ix-map-long": (set_first("a" * 10_000 + ".safetensors"), "aaa..., not the name of a safetensors file"),
    "ix-map-newline": (set_first("a\n::error::pwned.safetensors"), "is a\\n::error::pwned.safetensors, not the name"),
    "ix-map-surrogate": (set_first("a\ud800.safetensors"), "half a surrogate pair"),
    "ix-map-bin": (set_first("pytorch_model.bin"), "is pytorch_model.bin, not the name of a safetensors file"),
    "ix-list": (lambda folder: (folder / INDEX).write_text("[]"), "holds a list, expected a JSON object"),
    "ix-map-list": (
        lambda folder: (folder / INDEX).write_text('{"weight_map": [1]}'),
        "weight_map is missing or empty",
    ),
    "ix-metadata": (without_metadata, "field metadata is missing or not an object"),
    "ix-devzero": (
        lambda folder: ((folder / INDEX).unlink(), (folder / INDEX).symlink_to("/dev/zero")),
        "not a regular file",
    ),
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_broken_index_is_one_line(gemma_copy: Path, name: str) -> None:
    damage, message = INDEXES[name]
    damage(gemma_copy)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check_safetensors_folder(gemma_copy)
    assert INDEX in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
@pytest.mark.parametrize("name", ["config.json", SHARD])
def test_what_is_no_regular_file_is_refused(gemma_copy: Path, name: str, kind: str) -> None:
    (gemma_copy / name).unlink()
    if kind == "fifo":
        os.mkfifo(gemma_copy / name)
    elif kind == "device":
        (gemma_copy / name).symlink_to("/dev/zero")
    else:
        (gemma_copy / name).mkdir()
    with pytest.raises(ValueError, match=f"{name}: not a regular file"):
        check_safetensors_folder(gemma_copy)


@pytest.mark.parametrize(
    "pickles",
    [
        ["pytorch_model.bin"],
        ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
        ["pytorch_model.pt"],
        ["model.ckpt"],
    ],
)
def test_weights_from_a_pickle_are_refused(gemma_copy: Path, pickles: list[str]) -> None:
    remove_weights(gemma_copy)
    for name in pickles:
        (gemma_copy / name).write_bytes(PAYLOAD)
    # pk-decoy-stem: what satisfied the guard is not what transformers opens
    save_file({"a": torch.zeros(2)}, gemma_copy / "diffusion_pytorch_model.safetensors")
    for load in (check_safetensors_folder, lambda folder: TheWorld.from_pretrained(folder, enable_world=False)):
        with pytest.raises(ValueError, match=r"a pickle, which is never opened; save the weights as safetensors"):
            load(gemma_copy)
    assert not Path("/tmp/theworld-was-here").exists()


def test_a_vae_folder_is_read_as_diffusers_reads_it(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    weights = resolve_weight_files(tiny.cosmos / "vae", "diffusers")
    assert [path.name for path in weights.files] == ["diffusion_pytorch_model.safetensors"]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(PAYLOAD)
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"diffusers would read diffusion_pytorch_model.bin, a pickle"):
        check_safetensors_folder(tmp_path, "diffusers")


def test_a_single_file_hides_an_index_from_transformers(gemma_copy: Path) -> None:
    save_file(load_file(gemma_copy / SHARD), gemma_copy / "model.safetensors")
    message = f"transformers opens model.safetensors, and {INDEX} is shadowed; remove the one that is not meant"
    with pytest.raises(ValueError, match=re.escape(message)):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


def test_an_index_that_a_later_save_left_behind_is_said_and_harmless(gemma_copy: Path) -> None:
    tensors = {name: t for path in resolve_weight_files(gemma_copy).files for name, t in load_file(path).items()}
    for path in gemma_copy.glob("model-*"):
        path.unlink()
    save_file(tensors, gemma_copy / "model.safetensors")
    weights = resolve_weight_files(gemma_copy)
    assert [path.name for path in weights.files] == ["model.safetensors"]
    assert (weights.index, weights.shadowed) == (None, (INDEX,))
    assert TheWorld.from_pretrained(gemma_copy, enable_world=False).num_parameters()


def test_further_weight_files_are_shadowed(gemma_copy: Path) -> None:
    for name in ("pytorch_model.bin", "model-00009-of-00009.safetensors", "model.fp16.safetensors", "optimizer.pt"):
        (gemma_copy / name).write_bytes(b"")
    weights = check_safetensors_folder(gemma_copy)
    assert weights.shadowed == (
        "model-00009-of-00009.safetensors",
        "model.fp16.safetensors",
        "pytorch_model.bin",
    )
    assert weights.index == gemma_copy / INDEX


def test_a_variant_is_found_as_transformers_finds_it(gemma_copy: Path, tiny: SyntheticCheckpoint) -> None:
    model = TheWorld.from_pretrained(tiny.gemma, enable_world=False)
    remove_weights(gemma_copy)
    model.save_pretrained(gemma_copy, variant="fp16", max_shard_size="1MB")
    with pytest.raises(ValueError, match=r"no model.safetensors"):
        check_safetensors_folder(gemma_copy)
    files = check_safetensors_folder(gemma_copy, variant="fp16").files
    assert len(files) > 1
    loaded = TheWorld.from_pretrained(gemma_copy, enable_world=False, variant="fp16")
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("named", ["../outside.safetensors", "pytorch_model.bin", 5, "absent.safetensors"])
def test_a_config_that_names_its_own_weights_is_checked(gemma_copy: Path, named: Any) -> None:
    config = json.loads((gemma_copy / "config.json").read_text())
    (gemma_copy / "config.json").write_text(json.dumps({**config, "transformers_weights": named}))
    with pytest.raises(ValueError, match=r"config.json: transformers_weights"):
        check_safetensors_folder(gemma_copy)


def test_a_config_may_name_its_own_weights(gemma_copy: Path) -> None:
    config = json.loads((gemma_copy / "config.json").read_text())
    (gemma_copy / INDEX).rename(gemma_copy / "other.safetensors.index.json")
    (gemma_copy / "config.json").write_text(
        json.dumps({**config, "transformers_weights": "other.safetensors.index.json"})
    )
    assert len(check_safetensors_folder(gemma_copy).files) == 4
    assert TheWorld.from_pretrained(gemma_copy, enable_world=False).num_parameters()


def test_adapters_are_safetensors(gemma_copy: Path) -> None:
    assert check_adapter_files(gemma_copy) is None
    (gemma_copy / "adapter_config.json").write_text('{"base_model_name_or_path": "x", "peft_type": "LORA"}')
    with pytest.raises(ValueError, match=r"has no adapter_model.safetensors; save the adapter as safetensors"):
        check_safetensors_folder(gemma_copy)
    (gemma_copy / "adapter_model.bin").write_bytes(PAYLOAD)
    with pytest.raises(ValueError, match=r"holds adapter_model.bin, a pickle, which is never opened"):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)
    save_file({"a": torch.zeros(2)}, gemma_copy / "adapter_model.safetensors")
    check_safetensors_folder(gemma_copy)
    (gemma_copy / "adapter_config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"adapter_config.json: holds a list"):
        check_safetensors_folder(gemma_copy)


def test_pickles_cannot_be_asked_for(tiny: SyntheticCheckpoint) -> None:
    with pytest.raises(ValueError, match="use_safetensors=False would open a pickle"):
        TheWorld.from_pretrained(tiny.gemma, enable_world=False, use_safetensors=False)
