"""A rollout by diffusers' own pipeline, loaded by diffusers itself, to hold TheWorld's against.

In: a Cosmos repository, a clip, and a `RolloutConfig`. Out: the conditioning that the pipeline made of the clip (a
sample of the posterior, of frames that it padded itself), and the latents that it ends with.
"""

# C latent channels, T observed latent steps, n predicted ones, H W latent grid

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from theworld.checkpoints.bounded_files import read_json_object
from theworld.checkpoints.vae_rules import TEMPORAL_COMPRESSION, num_latent_steps
from theworld.cosmos_components import INDEX
from theworld.cosmos_pipelines import give_no_padding
from theworld.rollout_config import RolloutConfig
from theworld.world_rollout import draw_noise


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRollout:
    """What the pipeline was conditioned on, and what it made.

    Args:
        observed: (C, T, H, W), float32.
        predicted: (C, n, H, W), float32.
        num_denoising_steps: how many it ran.
        resizes_padding: whether its transformer resized the padding mask with torchvision; else it was given zeros.
    """

    observed: torch.Tensor
    predicted: torch.Tensor
    num_denoising_steps: int
    resizes_padding: bool


class _Passes:
    """A safety checker for a pipeline that is only held against another one."""

    def to(self, device: Any) -> None:
        """Stay."""

    def check_text_safety(self, _prompt: str) -> bool:
        """Pass."""
        return True


def run_reference(
    cosmos: str,
    clip: torch.Tensor,
    num_world_steps: int,
    config: RolloutConfig,
    *,
    dtype: torch.dtype,
    device: str = "cpu",
) -> ReferenceRollout:
    """Run diffusers' pipeline on frames.

    Args:
        clip: (3, F, height, width), float, in [-1, 1].
    """
    import diffusers
    from diffusers.utils import logging

    name = read_json_object(Path(cosmos, INDEX))["_class_name"]
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it remarks on a safety checker of another class
    logging.disable_progress_bar()
    try:
        pipeline = getattr(diffusers, name).from_pretrained(
            cosmos, dtype=dtype, use_safetensors=True, safety_checker=_Passes(), local_files_only=True
        )
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    resizes_padding = importlib.util.find_spec("torchvision") is not None
    if not resizes_padding:
        give_no_padding(pipeline.transformer)
    num_observed = num_latent_steps(clip.shape[1])
    conditioning: list[torch.Tensor] = []
    prepare, steps = pipeline.prepare_latents, []

    def remember(*args: Any, **kwargs: Any) -> Any:
        made = prepare(*args, **kwargs)
        conditioning.append(made[1])
        return made

    def count(_pipeline: Any, step: int, _t: Any, _tensors: Any) -> dict[str, Any]:
        steps.append(step)
        return {}

    pipeline.prepare_latents = remember
    grid = (pipeline.vae.config.z_dim, num_observed, *(side // 8 for side in clip.shape[2:]))
    if name == "Cosmos2VideoToWorldPipeline":
        own: dict[str, Any] = {"fps": config.fps, "video": ((clip + 1) / 2).transpose(0, 1)[None]}
    else:
        own = {"num_latent_conditional_frames": num_observed, "video": clip[None]}
    latents = pipeline(
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        prompt_embeds=config.prompt_embeds,
        negative_prompt_embeds=config.negative_prompt_embeds,
        height=clip.shape[2],
        width=clip.shape[3],
        num_frames=1 + TEMPORAL_COMPRESSION * (num_observed + num_world_steps - 1),
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        generator=torch.Generator().manual_seed(config.seed + 1),
        latents=draw_noise(grid, num_world_steps, config.seed)[None],
        callback_on_step_end=count,
        output_type="latent",
        **own,
    ).frames
    return ReferenceRollout(
        observed=conditioning[0][0, :, :num_observed],
        predicted=latents[0, :, num_observed:],
        num_denoising_steps=len(steps),
        resizes_padding=resizes_padding,
    )
