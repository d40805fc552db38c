"""Checkpoint files: damage is found and named; the digest sees every bit and no sharding."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from theworld.checkpoints.checkpoint_files import check_safetensors_folder, checkpoint_digest, list_safetensors
from theworld.synthetic import SyntheticCheckpoint

SHARD = "model-00001-of-00004.safetensors"
INDEX = "model.safetensors.index.json"


def cut(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-100])


def cut_in_header(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:100])


def append(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes() + b"x")


def not_json(folder: Path) -> None:
    (folder / SHARD).write_bytes((20).to_bytes(8, "little") + b"{" * 20)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def no_weights(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut, f"{SHARD}: truncated: "),
    "header": (cut_in_header, f"{SHARD}: not a safetensors file, or cut off in its header"),
    "appended": (append, f"{SHARD}: too long: "),
    "garbage": (not_json, f"{SHARD}: its safetensors header is not JSON"),
    "missing shard": (lambda folder: (folder / SHARD).unlink(), f"missing shard {SHARD}, which {INDEX} names"),
    "empty folder": (empty, "no such folder, or an empty one; give a checkpoint folder or a hub id"),
    "no weights": (no_weights, "no model.safetensors, nor an index of shards"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json: missing"),
    "config not JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json: not valid JSON"),
    "config a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds a list, expected a JSON object"),
    "empty index": (lambda folder: (folder / INDEX).write_text("{}"), "field weight_map is missing or empty"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(gemma_copy: Path, damage: str) -> None:
    check_safetensors_folder(gemma_copy)
    inflict, message = DAMAGES[damage]
    inflict(gemma_copy)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check_safetensors_folder(gemma_copy)
    assert "\n" not in str(caught.value)


def test_digest_ignores_sharding_and_sees_one_bit(gemma_copy: Path, tiny: SyntheticCheckpoint) -> None:
    expected = checkpoint_digest(tiny.gemma)
    tensors = {name: t for path in list_safetensors(gemma_copy) for name, t in load_file(path).items()}
    no_weights(gemma_copy)
    save_file(tensors, gemma_copy / "model.safetensors")
    assert checkpoint_digest(gemma_copy) == expected
    tensors["multi_modal_projector.mm_soft_emb_norm.weight"].view(torch.int16)[3] ^= 1
    save_file(tensors, gemma_copy / "model.safetensors")
    assert checkpoint_digest(gemma_copy) != expected


def test_digest_sees_dtype_shape_and_name(tmp_path: Path) -> None:
    variants = [
        {"a": torch.zeros(4, dtype=torch.int16)},
        {"a": torch.zeros(4, dtype=torch.float16)},
        {"a": torch.zeros(2, 2, dtype=torch.int16)},
        {"b": torch.zeros(4, dtype=torch.int16)},
        {"a": torch.zeros(4, dtype=torch.int16), "b": torch.zeros(0)},
    ]
    digests = set()
    for i, tensors in enumerate(variants):
        (tmp_path / str(i)).mkdir()
        save_file(tensors, tmp_path / str(i) / "model.safetensors")
        digests.add(checkpoint_digest(tmp_path / str(i)))
    assert len(digests) == len(variants)


def test_index_order_does_not_matter(gemma_copy: Path, tiny: SyntheticCheckpoint) -> None:
    index = json.loads((gemma_copy / INDEX).read_text())
    index["weight_map"] = dict(reversed(index["weight_map"].items()))
    (gemma_copy / INDEX).write_text(json.dumps(index))
    assert checkpoint_digest(gemma_copy) == checkpoint_digest(tiny.gemma)
