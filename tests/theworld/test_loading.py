"""Loading and saving: round trips, contradictory arguments, damaged checkpoints."""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, Gemma3Config

from tests.conftest import load_world, make_clip
from theworld import TheWorld, TheWorldConfig, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint


def assert_equal_bits(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(one, kind)()), dict(getattr(other, kind)())
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype, name
            assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_whole_round_trip(tiny: SyntheticCheckpoint, tmp_path: Path, dtype: torch.dtype) -> None:
    world = load_world(tiny, dtype=dtype)
    world.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=dtype)
    assert isinstance(loaded, TheWorld)
    assert loaded.world_config == world.world_config
    assert_equal_bits(loaded, world)
    assert loaded.get_trainable_parameters() == world.get_trainable_parameters()
    inputs = TheWorldProcessor.from_pretrained(tiny.gemma, frame_size=32)(
        text="<start_of_world>", world_frames=make_clip(), return_tensors="pt"
    )
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, world(**inputs).logits)


def test_files_are_named_as_gemmas(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    load_world(tiny).save_pretrained(tmp_path)
    from theworld.checkpoints.checkpoint_files import list_safetensors, read_safetensors_header

    def names(folder: Path) -> set[str]:
        return {name for path in list_safetensors(folder) for name in read_safetensors_header(path)}

    assert {n for n in names(tmp_path) if not n.startswith(("world_", "temporal_"))} == names(tiny.gemma)


def test_a_saved_world_loads_with_the_branch_off(
    tiny: SyntheticCheckpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = load_world(tiny)
    world.save_pretrained(tmp_path)
    logging.getLogger("transformers").addHandler(caplog.handler)  # it hands nothing to the root
    off = TheWorld.from_pretrained(tmp_path, enable_world=False)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert caplog.messages == [f"{tmp_path}: loaded without its world branch, as enable_world=False asks"]
    assert all(parameter.requires_grad for parameter in off.parameters())  # as Gemma 3: the stage was the branch's
    assert off.config.trainable_components is None
    assert not hasattr(off.generation_config, "trainable_components")
    held = TheWorld.from_pretrained(tmp_path, enable_world=False, freeze_gemma_vision=True, freeze_gemma_language=False)
    assert {name.split(".")[1] for name, p in held.named_parameters() if p.requires_grad} == {"language_model"}
    assert not off.enable_world
    assert not any(n.startswith(("world_", "temporal_")) for n, _ in off.named_parameters())
    assert torch.equal(off.get_input_embeddings().weight, world.get_input_embeddings().weight)


def test_embedding_is_resized_to_the_tokenizer(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    assert shared_world.get_input_embeddings().num_embeddings == len(processor.tokenizer) == 1027
    config = shared_world.world_config
    ids = processor.tokenizer.convert_tokens_to_ids(["<unused0>", "<start_of_world>", "<end_of_world>"])
    assert ids == [config.world_token_id, config.start_of_world_token_id, config.end_of_world_token_id]


def test_gemmas_keyword_arguments_pass_through(tiny: SyntheticCheckpoint) -> None:
    model, info = TheWorld.from_pretrained(
        tiny.gemma,
        enable_world=False,
        output_loading_info=True,
        attn_implementation="eager",
        device_map={"": "cpu"},
        dtype="float16",
    )
    assert not info["missing_keys"]
    assert model.config.text_config._attn_implementation == "eager"
    assert model.dtype == torch.float16
    config = Gemma3Config.from_pretrained(tiny.gemma)
    config.text_config.attention_dropout = 0.25
    assert TheWorld.from_pretrained(tiny.gemma, enable_world=False, config=config).config.text_config.attention_dropout


def test_device_map_places_the_branch_beside_the_embedding(
    tiny: SyntheticCheckpoint, tmp_path: Path, shared_world: TheWorld, processor: TheWorldProcessor
) -> None:
    assert {p.device for p in load_world(tiny, device_map="auto").parameters()} == {torch.device("cpu")}
    parts = dict.fromkeys(("model.multi_modal_projector", "model.language_model", "lm_head"), "cpu")
    world = load_world(tiny, device_map={**parts, "model.vision_tower": "disk"}, offload_folder=str(tmp_path))
    assert set(world.hf_device_map) == {
        *parts,
        "model.vision_tower",
        "model.world_encoder",
        "model.world_projection",
        "model.temporal_embedding",
    }
    assert world.world_projection.linear.weight.device == world.get_input_embeddings().weight.device
    inputs = processor(text="<start_of_world>", world_frames=make_clip(), return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(world(**inputs).logits, shared_world(**inputs).logits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"enable_world": True}, "name a Cosmos repository as cosmos_model_name_or_path, or pass enable_world=False"),
        ({"enable_world": "no"}, "enable_world must be True or False, got 'no'"),
        ({"cosmos_model_name_or_path": "TINY", "world": {"frame_size": 9}}, "frame_size must be a multiple of 8"),
        ({"cosmos_model_name_or_path": "TINY", "world": {"world_token": "<nope>"}}, "has no token '<nope>'"),
        ({"enable_world": False, "freeze": "nothing"}, "no freeze preset is named 'nothing'"),
    ],
)
def test_contradictions_are_value_errors(tiny: SyntheticCheckpoint, arguments: dict[str, Any], message: str) -> None:
    if arguments.get("cosmos_model_name_or_path"):
        arguments = {**arguments, "cosmos_model_name_or_path": str(tiny.cosmos)}
    with pytest.raises(ValueError, match=re.escape(message)):
        TheWorld.from_pretrained(tiny.gemma, **arguments)


def test_a_saved_world_takes_no_second_branch(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    load_world(tiny).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the checkpoint has its own world branch"):
        TheWorld.from_pretrained(tmp_path, cosmos_model_name_or_path=str(tiny.cosmos))


def test_damaged_checkpoints_are_value_errors(gemma_copy: Path) -> None:
    (gemma_copy / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(ValueError, match=r"missing shard model-00002-of-00004.safetensors"):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


@pytest.mark.parametrize("name", ["nowhere/at-all", "/nowhere/gemma", "a\nb", "", None, 5, os.fsdecode(b"\xff-ck")])
def test_what_names_no_checkpoint_is_one_line(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"give a folder|rename the folder") as caught:
        TheWorld.from_pretrained(name, enable_world=False)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("name", "text"), [("tokenizer.json", "[]"), ("tokenizer_config.json", "{")])
def test_a_broken_tokenizer_is_named(gemma_copy: Path, tiny: SyntheticCheckpoint, name: str, text: str) -> None:
    (gemma_copy / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{gemma_copy}/{name}: ")):
        TheWorld.from_pretrained(gemma_copy, cosmos_model_name_or_path=str(tiny.cosmos))


def test_statistics_of_another_vae_are_refused_before_any_weight_is_read(
    tiny: SyntheticCheckpoint, tmp_path: Path
) -> None:
    config = json.loads((tiny.cosmos / "vae" / "config.json").read_text())
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({**config, "z_dim": 48}))
    with pytest.raises(ValueError, match=r"vae/config.json: latents_mean is .* a list of z_dim \(48\) numbers"):
        TheWorld.from_pretrained(tiny.gemma, cosmos_model_name_or_path=str(tmp_path))


def test_the_constructor_builds_what_the_config_says(shared_world: TheWorld) -> None:
    config = TheWorldConfig(**TheWorldConfig.adopt(shared_world.config.to_dict(), source="test"))
    with torch.device("meta"):
        built = TheWorld(config)
    assert {n: p.shape for n, p in built.named_parameters()} == {n: p.shape for n, p in shared_world.named_parameters()}
