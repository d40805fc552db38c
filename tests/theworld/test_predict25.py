"""Predict 2.5's layout: another scheduler, text encoder and pipeline; latents are diffusers' own all the same."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from tests.conftest import load_world, make_clip
from theworld import RolloutConfig, TheWorld, TheWorldProcessor
from theworld.pipeline_geometries import build_transformer, pipeline_geometry
from theworld.synthetic import SyntheticCheckpoint
from theworld.synthetic_pipeline import write_pipeline
from theworld_validate.world.reference_pipeline import run_reference

EMBEDS = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def cosmos(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Predict 2.5 repository."""
    folder = Path(shutil.copytree(tiny.cosmos, tmp_path_factory.mktemp("whole25") / "cosmos"))
    write_pipeline("tiny", folder, generation="predict2.5")
    return folder


def test_the_real_geometry_has_the_published_number_of_parameters() -> None:
    """nvidia/Cosmos-Predict2.5-2B's transformer."""
    with torch.device("meta"):
        transformer = build_transformer(pipeline_geometry("4b", generation="predict2.5"))
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 2_059_174_912


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


@pytest.mark.parametrize("guidance_scale", [1.0, 7.0])
def test_a_prompt_is_a_rollout_as_diffusers_own_pipeline_makes_it(
    model: TheWorld, cosmos: Path, guidance_scale: float
) -> None:
    """From a text by Qwen2.5-VL to latents; and the text matters."""
    model.release_world_model()
    config = RolloutConfig(
        prompt="a ball rolls", safety_checker=None, num_inference_steps=3, guidance_scale=guidance_scale
    )
    reference = run_reference(str(cosmos), make_clip(5), 2, config, dtype=torch.float32)
    made = roll(model, reference.observed, config)
    world_model = model.model._world_model
    assert world_model is not None
    assert type(world_model._text_encoder) is Qwen2_5_VLForConditionalGeneration
    assert torch.equal(made[:, 2:], reference.predicted)
    assert not torch.equal(made, roll(model, reference.observed, replace(config, prompt="a ball stops")))


def test_a_prompt_of_its_negative_kind_matters_with_guidance_alone(model: TheWorld) -> None:
    observed = model.world_encoder(make_clip(1)[None])[0]
    config = RolloutConfig(prompt="a", safety_checker=None, num_inference_steps=2)
    one, other = (roll(model, observed, replace(config, negative_prompt=text)) for text in ("b", "c"))
    assert not torch.equal(one, other)
    plain = replace(config, guidance_scale=1.0)
    one, other = (roll(model, observed, replace(plain, negative_prompt=text)) for text in ("b", "c"))
    assert torch.equal(one, other)


def test_a_question_is_answered_with_what_it_predicts(model: TheWorld, processor: TheWorldProcessor) -> None:
    """A prompt through text encoder, rollout and Gemma to tokens; another prompt gives other logits."""
    inputs = processor(
        text="<start_of_world> What next?", world_frames=make_clip(5), num_world_steps=2, return_tensors="pt"
    )
    config = RolloutConfig(prompt="a ball rolls", safety_checker=None, num_inference_steps=2, guidance_scale=1.0)
    with torch.no_grad():
        logits = [model(**inputs, rollout=replace(config, prompt=text)).logits[0, -1] for text in ("a", "b")]
    assert not torch.equal(*logits)
    made = model.generate(**inputs, rollout=config, max_new_tokens=2, do_sample=False)
    assert made.shape[1] == inputs["input_ids"].shape[1] + 2


def roll(model: TheWorld, observed: torch.Tensor, config: RolloutConfig) -> torch.Tensor:
    with torch.no_grad():
        return model.roll_out(world_latents=observed[None], num_world_steps=2, rollout=config).world_latents[0]
