"""Synthetic checkpoints: the real format, deterministic, and lively enough that a fault shows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, Gemma3ForConditionalGeneration

from theworld.checkpoints.checkpoint_files import checkpoint_digest
from theworld.geometries import geometry
from theworld.synthetic import SyntheticCheckpoint, cached_checkpoint, draw_tensor, recipe_digest, write_checkpoint
from theworld.synthetic_tokenizer import build_vocabulary


def test_deterministic_by_seed(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    again = write_checkpoint("tiny", tmp_path / "again")
    other = write_checkpoint("tiny", tmp_path / "other", seed=1)
    assert checkpoint_digest(again.gemma) == checkpoint_digest(tiny.gemma) != checkpoint_digest(other.gemma)
    assert checkpoint_digest(again.cosmos / "vae", "diffusers") == checkpoint_digest(tiny.cosmos / "vae", "diffusers")
    for path in tiny.gemma.iterdir():
        assert path.read_bytes() == (again.gemma / path.name).read_bytes(), path.name


def test_format_is_the_hubs(tiny: SyntheticCheckpoint) -> None:
    names = json.loads((tiny.gemma / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(names.values())) == 4
    assert "language_model.model.embed_tokens.weight" in names
    assert any(name.startswith("vision_tower.vision_model.") for name in names)
    assert "multi_modal_projector.mm_input_projection_weight" in names
    assert not any("lm_head" in name for name in names), "the head is tied"
    config = json.loads((tiny.gemma / "config.json").read_text())
    assert config["architectures"] == ["Gemma3ForConditionalGeneration"]
    assert (config["model_type"], config["dtype"]) == ("gemma3", "bfloat16")
    assert (tiny.cosmos / "vae" / "diffusion_pytorch_model.safetensors").is_file()


def test_the_pipeline_is_the_repositorys_layout_and_is_written_only_where_it_is_asked_for(
    tiny: SyntheticCheckpoint, tmp_path: Path
) -> None:
    made = write_checkpoint("tiny", tmp_path / "whole", pipeline="predict2")
    names = {"transformer", "text_encoder", "tokenizer", "scheduler"}
    assert {path.name for path in made.cosmos.iterdir()} == {"vae", "model_index.json", *names}
    assert {path.name for path in tiny.cosmos.iterdir()} == {"vae", "model_index.json"}
    index = json.loads((made.cosmos / "model_index.json").read_text())
    assert index.pop("_class_name") == "Cosmos2VideoToWorldPipeline"
    assert set(index) == names | {"vae"}
    for path in (tiny.cosmos / "vae").iterdir():
        assert path.read_bytes() == (made.cosmos / "vae" / path.name).read_bytes(), path.name


def test_a_geometry_of_ones_own_is_written(tmp_path: Path) -> None:
    own = replace(geometry("tiny"), vae_config={"base_dim": 4, "num_res_blocks": 1, "z_dim": 16})
    made = write_checkpoint(own, tmp_path / "own")
    assert json.loads((made.cosmos / "vae" / "config.json").read_text())["base_dim"] == 4


def test_tiny_keeps_what_makes_gemma_hard(tiny: SyntheticCheckpoint) -> None:
    text = AutoConfig.from_pretrained(tiny.gemma).text_config
    assert text.layer_types == ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"] * 2
    assert text.sliding_window == 32
    assert text.rope_parameters["full_attention"] == {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0}
    assert text.rope_parameters["sliding_attention"] == {"rope_theta": 1e4, "rope_type": "default"}
    assert text.num_attention_heads > text.num_key_value_heads > 1
    assert text.num_attention_heads * text.head_dim != text.hidden_size


def test_every_parameter_is_lively(gemma: Gemma3ForConditionalGeneration) -> None:
    for name, parameter in gemma.named_parameters():
        assert parameter.std() > 0.01, name


@pytest.mark.parametrize("size", ["tiny", "4b"])
def test_vocabulary_has_gemmas_layout(size: str) -> None:
    shape = geometry(size)
    vocabulary = build_vocabulary(shape)
    assert sorted(vocabulary.values()) == list(range(shape.num_tokens))
    known = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unused0>": 6, "<start_of_turn>": 105, "<end_of_turn>": 106}
    assert known.items() <= vocabulary.items()
    if size == "4b":
        assert (vocabulary["<start_of_image>"], vocabulary["<end_of_image>"]) == (255_999, 256_000)
        assert (len(vocabulary), vocabulary["<image_soft_token>"]) == (262_145, 262_144)


def test_tokenizer_spells_any_text(tiny: SyntheticCheckpoint) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.gemma)
    text = "Grüße, 世界!\n\n<start_of_turn>user"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == f"<bos>{text}"


def test_a_tensor_depends_on_its_name_and_seed_alone() -> None:
    one = draw_tensor("a.weight", (4, 8), seed=0, device="cpu")
    torch.manual_seed(5)
    assert torch.equal(one, draw_tensor("a.weight", (4, 8), seed=0, device="cpu"))
    assert not torch.equal(one, draw_tensor("b.weight", (4, 8), seed=0, device="cpu"))
    assert not torch.equal(one, draw_tensor("a.weight", (4, 8), seed=1, device="cpu"))


def test_the_cache_is_used_and_keyed_by_recipe(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tiny.gemma / "marker"
    marker.touch()
    assert (cached_checkpoint("tiny").gemma / "marker").exists()
    marker.unlink()
    before = recipe_digest("tiny", seed=0)
    assert recipe_digest("tiny", seed=1) != before
    monkeypatch.setattr("theworld.geometries._TINY", geometry("4b"))
    assert recipe_digest("tiny", seed=0) != before


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="already there and not an empty folder"):
        write_checkpoint("tiny", tmp_path)
    with pytest.raises(ValueError, match="no checkpoint size is named '5b'"):
        write_checkpoint("5b", tmp_path / "new")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("theworld.synthetic._write_cosmos", fail)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint("tiny", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
