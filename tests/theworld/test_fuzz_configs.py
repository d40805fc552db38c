"""Damaged configs of a checkpoint: refused in one line, or read into a config that a model can be built from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from transformers import GenerationConfig

from tests.mutations import SETTINGS, damaged, damaged_values, is_refused, refused_or
from theworld import TheWorld
from theworld.checkpoints.key_audit import audit_checkpoint
from theworld.configuration_theworld import TheWorldConfig, WorldConfig
from theworld.folder_rules import check_gemma3_folder, check_generation_config
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_encoder import WorldEncoder, read_vae_config
from theworld_validate.results import InputError
from theworld_validate.subjects.checkpoints import read_config

GENERATION = {
    "bos_token_id": 2,
    "do_sample": True,
    "eos_token_id": [1, 106],
    "pad_token_id": 0,
    "top_k": 64,
    "top_p": 0.95,
    "temperature": 0.7,
    "max_new_tokens": 20,
    "transformers_version": "5.23.0",
}
FEW = settings(SETTINGS, max_examples=150)  # where a model is built of what is read


@pytest.fixture(scope="module")
def folder(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one tensor: configs are all that is looked at."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "config.json").write_bytes((tiny.gemma / "config.json").read_bytes())
    save_file({"lm_head.weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def config(tiny: SyntheticCheckpoint) -> dict[str, Any]:
    """Gemma's config.json, with a branch, and with the name of its weights."""
    vae_config, _ = read_vae_config(str(tiny.cosmos))
    world = {"vae_config": vae_config, "frame_size": 32, "world_token_id": 6}
    tokens = {"start_of_world_token_id": 1025, "end_of_world_token_id": 1026}
    values = json.loads((tiny.gemma / "config.json").read_text())
    return {**values, "transformers_weights": "model.safetensors", "world_config": {**world, **tokens}}


@pytest.fixture(scope="module")
def documents(config: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return damaged(config)


@pytest.fixture(scope="module")
def vae_documents(tiny: SyntheticCheckpoint) -> st.SearchStrategy[bytes]:
    return damaged(json.loads((tiny.cosmos / "vae" / "config.json").read_text()))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    state = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), state)


@SETTINGS
@given(data=st.data())
def test_a_damaged_config(folder: Path, documents: st.SearchStrategy[bytes], data: st.DataObject) -> None:
    (folder / "config.json").write_bytes(data.draw(documents))
    config = refused_or(lambda: read_config(str(folder)), InputError)
    if config is None:
        return
    assert isinstance(config, TheWorldConfig)
    text, vision = config.text_config, config.vision_config
    assert 1 <= text.num_hidden_layers <= 1024
    assert len(text.layer_types) == text.num_hidden_layers
    assert 1 <= text.hidden_size <= 1 << 16
    assert text.num_attention_heads % text.num_key_value_heads == 0
    assert 1 <= vision.image_size <= 8192
    assert config.image_token_index < text.vocab_size
    assert config.world_config is None or isinstance(config.world_config, WorldConfig)
    json.dumps(config.to_dict(), allow_nan=False)


@FEW
@given(data=st.data())
def test_what_is_read_describes_a_model(folder: Path, config: dict[str, Any], data: st.DataObject) -> None:
    (folder / "config.json").write_bytes(data.draw(damaged_values(config)))
    read = refused_or(lambda: read_config(str(folder)), InputError)
    if read is not None:
        weights = check_gemma3_folder(folder).weights
        audit = refused_or(lambda: audit_checkpoint(weights, TheWorld, read), ValueError)
        assert audit is None or audit.missing


@SETTINGS
@given(data=st.data())
def test_a_damaged_vae_config(
    tmp_path_factory: pytest.TempPathFactory, vae_documents: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-vae"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(data.draw(vae_documents))
    read = refused_or(lambda: read_vae_config(str(folder)), ValueError)
    if read is not None:
        values, subfolder = read
        assert subfolder is None
        assert len(values.get("latents_mean", range(16))) == len(values.get("latents_std", range(16))) == 16
        assert all(std > 0 for std in values.get("latents_std", ()))
        WorldConfig(vae_config=values)


@FEW
@given(data=st.data())
def test_what_is_read_describes_a_vae(
    tmp_path_factory: pytest.TempPathFactory, vae_documents: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-vae"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(data.draw(vae_documents))
    read = refused_or(lambda: read_vae_config(str(folder)), ValueError)
    if read is not None:
        with torch.device("meta"):
            WorldEncoder.from_vae_config(read[0])


@SETTINGS
@given(data=damaged(GENERATION))
def test_a_damaged_generation_config(folder: Path, data: bytes) -> None:
    path = folder / "generation_config.json"
    path.write_bytes(data)
    try:
        if not is_refused(lambda: check_generation_config(folder), ValueError):
            GenerationConfig.from_pretrained(folder)
    finally:
        path.unlink()
