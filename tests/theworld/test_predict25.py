"""Predict 2.5's layout: another scheduler, text encoder and pipeline; latents are diffusers' own all the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CosmosTransformer3DModel, UniPCMultistepScheduler
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tests.conftest import load_world, make_clip
from theworld import RolloutConfig, TheWorld
from theworld.pipeline_geometries import pipeline_geometry
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.world.reference_pipeline import run_reference

_TEXT = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
EMBEDS = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def cosmos(whole_cosmos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Predict 2.5 repository."""
    folder = Path(shutil.copytree(whole_cosmos, tmp_path_factory.mktemp("whole25") / "cosmos"))
    for name in ("transformer", "scheduler", "text_encoder"):
        shutil.rmtree(folder / name)
    torch.manual_seed(0)
    projection = {"use_crossattn_projection": True, "crossattn_proj_in_channels": 32}
    shape = {**pipeline_geometry("tiny").transformer_config, **projection, "encoder_hidden_states_channels": 32}
    CosmosTransformer3DModel(**shape).save_pretrained(folder / "transformer")
    scheduler = UniPCMultistepScheduler(
        use_flow_sigmas=True, use_karras_sigmas=True, prediction_type="flow_prediction", sigma_max=200.0, sigma_min=0.01
    )
    scheduler.save_pretrained(folder / "scheduler")
    config = Qwen2_5_VLConfig(text_config=_TEXT, vision_config=_VISION)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder / "text_encoder")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "_class_name": "Cosmos2_5_PredictBasePipeline",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def model(tiny: SyntheticCheckpoint, cosmos: Path) -> TheWorld:
    world = {"frame_size": 32, "max_world_steps": 8}
    return load_world(SyntheticCheckpoint(gemma=tiny.gemma, cosmos=cosmos), world=world)


@pytest.mark.parametrize("num_frames", [1, 5])
@pytest.mark.parametrize("guidance", [{"guidance_scale": 1.0}, {"negative_prompt_embeds": EMBEDS.flip(1)}])
def test_latents_are_those_of_diffusers_own_pipeline(
    model: TheWorld, cosmos: Path, num_frames: int, guidance: dict[str, Any]
) -> None:
    config = RolloutConfig(prompt_embeds=EMBEDS, safety_checker=None, num_inference_steps=3, **guidance)
    reference = run_reference(str(cosmos), make_clip(num_frames), 2, config, dtype=torch.float32)
    made = model.roll_out(world_latents=reference.observed[None], num_world_steps=2, rollout=config).world_latents[0]
    num_observed = reference.observed.shape[1]
    assert torch.equal(made[:, :num_observed], reference.observed)
    assert torch.equal(made[:, num_observed:], reference.predicted)
    assert reference.predicted.std() > 0.1


def test_more_observed_steps_than_it_was_made_for_are_refused(model: TheWorld) -> None:
    config = RolloutConfig(prompt_embeds=EMBEDS, safety_checker=None, guidance_scale=1.0)
    with pytest.raises(ValueError, match="from 1 to 2 observed latent steps, got 3; give at most 5 frames"):
        model.roll_out(make_clip(9)[None], num_world_steps=1, rollout=config)


def test_its_text_encoder_is_loaded_where_a_prompt_needs_it(model: TheWorld) -> None:
    config = RolloutConfig(prompt="a", safety_checker=None, guidance_scale=1.0)
    world_model = model.model._world_model_of(config, torch.float32)
    with pytest.raises(ValueError, match=r"chat.template"):  # the tiny tokenizer has none: its own encoder was asked
        world_model.embed(config, torch.device("cpu"))
    assert type(world_model._text_encoder) is Qwen2_5_VLForConditionalGeneration
