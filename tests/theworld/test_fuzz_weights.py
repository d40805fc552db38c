"""Damaged weight files and indexes: refused in one line, or read as the format's own library reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save, save_file

from tests.mutations import SETTINGS, damaged, damaged_bytes, damaged_values, is_refused, refused_or
from theworld.checkpoints.checkpoint_files import check_safetensors_folder, checkpoint_digest
from theworld.checkpoints.key_audit import audit_model, read_headers
from theworld.checkpoints.key_problems import require_matching_keys
from theworld.checkpoints.safetensors_header import read_safetensors_header
from theworld.checkpoints.value_audit import audit_values
from theworld.checkpoints.weight_files import read_index, resolve_weight_files
from theworld.folder_rules import check_gemma3_folder
from theworld.synthetic import SyntheticCheckpoint

TENSORS = {
    "layers.0.weight": torch.arange(12.0).reshape(3, 4),
    "layers.0.bias": torch.arange(3.0),
    "layers.1.weight": torch.arange(6.0).reshape(2, 3).bfloat16(),
    "layers.1.bias": torch.arange(2.0).half(),
    "position": torch.arange(4),
    "scale": torch.tensor(1.5, dtype=torch.float64),
}
WHOLE = save(TENSORS, metadata={"format": "pt"})
HEADER_BYTES = int.from_bytes(WHOLE[:8], "little")
HEADER: dict[str, Any] = json.loads(WHOLE[8 : 8 + HEADER_BYTES])
DATA = WHOLE[8 + HEADER_BYTES :]
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = {
    "metadata": {"total_size": len(DATA)},
    "weight_map": {name: SHARDS[i % 2] for i, name in enumerate(TENSORS)},
}


class Small(torch.nn.Module):
    """The module that the tensors are of."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        self.register_buffer("position", torch.zeros(4, dtype=torch.int64))
        self.scale = torch.nn.Parameter(torch.zeros(()))


def with_header(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + DATA


def damaged_files() -> st.SearchStrategy[bytes]:
    """A file with damaged bytes, or whole with a damaged header."""
    whole_header = json.dumps(HEADER).encode()
    return st.one_of(
        damaged_bytes(WHOLE),
        damaged_bytes(whole_header).map(with_header),
        damaged_values(HEADER).map(with_header),
    )


@pytest.fixture(scope="module")
def folder(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one file."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "config.json").write_bytes((tiny.gemma / "config.json").read_bytes())
    return folder


@pytest.fixture(scope="module")
def sharded(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two shards, beside a file that is not its own."""
    outside = tmp_path_factory.mktemp("outside")
    folder = outside / "sharded"
    folder.mkdir()
    for number, shard in enumerate(SHARDS):
        save_file({name: TENSORS[name] for i, name in enumerate(TENSORS) if i % 2 == number}, folder / shard)
    save_file(TENSORS, outside / "x.safetensors")
    (folder / "config.json").write_bytes((tiny.gemma / "config.json").read_bytes())
    return folder


def test_the_undamaged_ones_are_read(folder: Path, sharded: Path) -> None:
    (folder / "model.safetensors").write_bytes(with_header(json.dumps(HEADER).encode()))
    weights = check_gemma3_folder(folder).weights
    require_matching_keys(audit_model(weights, read_headers(weights), Small()))
    (sharded / "model.safetensors.index.json").write_text(json.dumps(INDEX))
    weights = check_safetensors_folder(sharded)
    require_matching_keys(audit_model(weights, read_headers(weights), Small()))
    assert checkpoint_digest(folder) == checkpoint_digest(sharded)


@SETTINGS
@given(data=damaged_files())
def test_a_damaged_safetensors_file(folder: Path, data: bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    entries = refused_or(lambda: read_safetensors_header(path), ValueError)
    if entries is None:
        assert is_refused(lambda: check_safetensors_folder(folder), ValueError)
        return
    theirs = dict(deserialize(data))  # what is read here, the format's own library reads too
    assert {name: (entry.dtype, [*entry.shape], data[entry.start : entry.stop]) for name, entry in entries.items()} == {
        name: (tensor["dtype"], tensor["shape"], bytes(tensor["data"])) for name, tensor in theirs.items()
    }
    weights = check_gemma3_folder(folder).weights
    headers = read_headers(weights)
    audit_values(headers)
    assert len(checkpoint_digest(folder)) == 32
    audit = audit_model(weights, headers, Small())
    if not is_refused(lambda: require_matching_keys(audit), ValueError):
        assert {name: entry.shape for name, entry in entries.items()} == {n: t.shape for n, t in TENSORS.items()}


@SETTINGS
@given(data=damaged(INDEX))
def test_a_damaged_index(sharded: Path, data: bytes) -> None:
    path = sharded / "model.safetensors.index.json"
    path.write_bytes(data)
    weight_map = refused_or(lambda: read_index(path), ValueError)
    weights = refused_or(lambda: resolve_weight_files(sharded), ValueError)
    if weight_map is None:
        assert weights is None
    if weights is None:
        assert is_refused(lambda: check_safetensors_folder(sharded), ValueError)
        return
    assert weights.weight_map == weight_map
    assert {file.parent for file in weights.files} == {sharded}
    headers = read_headers(check_safetensors_folder(sharded))
    audit = audit_model(weights, headers, Small())
    if not is_refused(lambda: require_matching_keys(audit), ValueError):
        assert set(headers.entries) == set(TENSORS)
    if weight_map != INDEX["weight_map"]:
        assert audit.index_missing or audit.index_unlisted or audit.index_misplaced


def test_what_the_format_refuses_is_refused(folder: Path) -> None:
    """Each break of a rule by itself: here and by the format's own library."""
    first = HEADER["layers.0.bias"]
    for change in (
        {"dtype": "F33"}, {"dtype": "f32"}, {"dtype": None}, {"shape": [4]}, {"shape": [-3]}, {"shape": [3.0]},
        {"shape": "3"}, {"shape": [2**64]}, {"data_offsets": [0]}, {"data_offsets": [12, 0]}, {"more": 1},
        {"data_offsets": [0, 10**30]}, {"data_offsets": [-12, 0]},
    ):  # fmt: skip
        data = with_header(json.dumps({**HEADER, "layers.0.bias": {**first, **change}}).encode())
        (folder / "model.safetensors").write_bytes(data)
        assert is_refused(lambda: read_safetensors_header(folder / "model.safetensors"), ValueError)
        if "more" not in change:
            with pytest.raises(SafetensorError):
                deserialize(data)
