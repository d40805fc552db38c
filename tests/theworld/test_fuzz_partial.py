"""Damaged trainable-only checkpoints: refused in one line, or read as what they were trained on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.mutations import SETTINGS, damaged, damaged_bytes, is_refused, refused_or
from theworld.base_digests import base_digests
from theworld.components import COMPONENT_NAMES
from theworld.partial_base import BASE_FILE, SCHEMA, read_base
from theworld.partial_checkpoint import WEIGHTS_FILE, check_trainable_file, is_partial_checkpoint, verify_base
from theworld.synthetic import SyntheticCheckpoint

TENSORS = {
    "model.world_projection.weight": np.ones((4, 2), np.float32),
    "model.world_projection.bias": np.ones(4, np.float16),
}


@pytest.fixture(scope="module")
def folder(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trainable-only checkpoint beside a base and a VAE of one tensor each."""
    folder = tmp_path_factory.mktemp("partial")
    for name, stem in (("base", "model"), ("vae", "diffusion_pytorch_model")):
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes((tiny.gemma / "config.json").read_bytes())
        save_file({"a": np.ones((2, 2), np.float32)}, folder / name / f"{stem}.safetensors")
    save_file(TENSORS, folder / WEIGHTS_FILE)
    return folder


@pytest.fixture(scope="module")
def values(folder: Path) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name_or_path": str(folder / "base"),
        "digests": base_digests(folder / "base", "transformers"),
        "cosmos_model_name_or_path": str(folder / "vae"),
        "cosmos_digests": base_digests(folder / "vae", "diffusers"),
        "world": {"frame_size": 32, "max_world_steps": 4, "use_temporal_embedding": True, "world_token": "<unused0>"},
        "trainable": [COMPONENT_NAMES[-1], COMPONENT_NAMES[0]],
        "tensors": {"model.world_projection.weight": "F32 [4, 2]", "model.world_projection.bias": "F16 [4]"},
    }


@pytest.fixture(scope="module")
def documents(values: dict[str, Any]) -> st.SearchStrategy[bytes]:
    first = {key: value for key, value in values.items() if key not in ("digests", "cosmos_digests", "tensors")}
    digests = {"digest": values["digests"]["weights"], "cosmos_digest": values["cosmos_digests"]["weights"]}
    return st.one_of(damaged(values), damaged({**first, **digests, "schema": "theworld-trainable/1"}))


def test_the_undamaged_one_is_read(folder: Path, values: dict[str, Any]) -> None:
    (folder / BASE_FILE).write_text(json.dumps(values))
    base = read_base(folder)
    check_trainable_file(folder, base)
    verify_base(folder, base)


@SETTINGS
@given(data=st.data())
def test_a_damaged_base_file(
    folder: Path, values: dict[str, Any], documents: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    (folder / BASE_FILE).write_bytes(data.draw(documents))
    assert is_partial_checkpoint(folder)
    base = refused_or(lambda: read_base(folder), ValueError)
    if base is None:
        return
    assert set(base.trainable) <= set(COMPONENT_NAMES)
    assert base.freeze.trainable == base.trainable
    assert set(base.load_arguments()) <= {"cosmos_model_name_or_path", "world"}
    is_refused(lambda: check_trainable_file(folder, base), ValueError)
    if not is_refused(lambda: verify_base(folder, base), ValueError):
        assert base.digests["weights"] == values["digests"]["weights"]
        assert Path(base.name_or_path).resolve() == folder / "base"


@SETTINGS
@given(data=st.data())
def test_a_damaged_weights_file(folder: Path, values: dict[str, Any], data: st.DataObject) -> None:
    (folder / BASE_FILE).write_text(json.dumps(values))
    base = read_base(folder)
    whole = (folder / WEIGHTS_FILE).read_bytes()
    try:
        (folder / WEIGHTS_FILE).write_bytes(data.draw(damaged_bytes(whole)))
        is_refused(lambda: check_trainable_file(folder, base), ValueError)
    finally:
        (folder / WEIGHTS_FILE).write_bytes(whole)
