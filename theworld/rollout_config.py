"""What a rollout is asked for, and what it gives back.

In: a prompt, a seed, numbers. Out: a checked `RolloutConfig`; a `Rollout`, with the guardrails that looked at it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from theworld.checkpoints.error_text import shown_name

if TYPE_CHECKING:
    import torch

COSMOS_GUARDRAIL = "cosmos_guardrail"
_MAX_INFERENCE_STEPS = 10_000
_MAX_SEED = 2**63 - 1


class _NotChosen:
    """Stands for a safety checker that nobody has chosen: there is no silent default."""

    def __repr__(self) -> str:
        return "NOT_CHOSEN"


NOT_CHOSEN = _NotChosen()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RolloutConfig:
    """How Cosmos predicts what follows a clip. All fields are checked; a wrong one is a `ValueError`.

    Args:
        safety_checker: yours to choose: "cosmos_guardrail" (an extra, which downloads its weights), any object with
            `check_text_safety(prompt) -> bool`, or None, which leaves guardrails out under your own responsibility.
        prompt: what the clip shows and what happens; or `prompt_embeds`, (1, length, text_embed_dim), float.
        negative_prompt, negative_prompt_embeds: what to keep away from, with guidance; the pipeline's own by default.
        num_inference_steps: denoising steps.
        guidance_scale: of classifier-free guidance; 1 or less is none, and halves the work.
        fps: scales the temporal positions of Predict 2. None leaves them as the released checkpoints were trained.
        seed: of the noise. Every clip starts from the same noise, so that a clip's rollout depends on no other.
        cosmos_model_name_or_path: the repository that predicts; that of the model's VAE by default.
        offload: keep the world model on the CPU between uses, and one of its parts at a time on the device.
        cache_dir: a folder in which predicted latents are kept, by content.
    """

    safety_checker: Any = NOT_CHOSEN
    prompt: str | None = None
    prompt_embeds: "torch.Tensor | None" = None
    negative_prompt: str | None = None
    negative_prompt_embeds: "torch.Tensor | None" = None
    num_inference_steps: int = 35
    guidance_scale: float = 7.0
    fps: int | None = None
    seed: int = 0
    cosmos_model_name_or_path: str | None = None
    offload: bool = False
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.prompt_embeds is None):
            raise ValueError("a rollout needs a text: give RolloutConfig either prompt or prompt_embeds")
        if self.negative_prompt is not None and self.negative_prompt_embeds is not None:
            raise ValueError("RolloutConfig takes either negative_prompt or negative_prompt_embeds")
        for name in ("prompt", "negative_prompt", "cosmos_model_name_or_path", "cache_dir"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"RolloutConfig.{name} must be a text, got {shown_name(repr(value))}")
        for name, low, high in (
            ("num_inference_steps", 1, _MAX_INFERENCE_STEPS),
            ("seed", 0, _MAX_SEED),
            ("fps", 1, 1000),
        ):
            value = getattr(self, name)
            if value is None and name == "fps":
                continue
            if type(value) is not int or not low <= value <= high:
                raise ValueError(
                    f"RolloutConfig.{name} must be a whole number from {low} to {high:,}, got {shown_name(repr(value))}"
                )
        scale = self.guidance_scale
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
            raise ValueError(f"RolloutConfig.guidance_scale must be a finite number, got {shown_name(repr(scale))}")
        if type(self.offload) is not bool:
            raise ValueError(f"RolloutConfig.offload must be True or False, got {shown_name(repr(self.offload))}")
        for name in ("prompt_embeds", "negative_prompt_embeds"):
            embeds = getattr(self, name)
            shape = getattr(embeds, "shape", None)
            if embeds is not None and (shape is None or len(shape) != 3 or shape[0] != 1):
                raise ValueError(f"RolloutConfig.{name} must be a tensor (1, length, text_embed_dim), got {shape}")

    @property
    def uses_guidance(self) -> bool:
        """Whether each step also asks the model about the negative prompt."""
        return self.guidance_scale > 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """One of the safety checker's guardrails, and whether it looked at a rollout.

    Args:
        name: "text" or "video".
        was_called: whether it looked, and passed what it saw.
        reason: why it was not called; None if it was.
    """

    name: str
    was_called: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Observed latents, and the predicted ones after them.

    Args:
        world_latents: (B, C, T + n, H, W) or (B, K, C, T + n, H, W), as the model takes them: a clip's observed steps,
            which are as they were, its n predicted ones, and zeros.
        world_num_frames: (B,) or (B, K), how many frames the steps of each clip stand for; 0 for no clip.
        guardrails: which guardrails looked at it, and why others did not.
    """

    world_latents: "torch.Tensor"
    world_num_frames: "torch.Tensor"
    guardrails: tuple[Guardrail, ...]


def check_num_world_steps(num_world_steps: Any, *, most: int) -> int:
    """Return a number of steps to predict.

    Raises:
        ValueError: unless it is a whole number from 0 to `most`, what `max_world_steps` leaves room for.
    """
    if type(num_world_steps) is not int or num_world_steps < 0:
        shown = shown_name(repr(num_world_steps))
        raise ValueError(f"num_world_steps must be a whole number of latent steps to predict, got {shown}")
    if num_world_steps > most:
        raise ValueError(
            f"num_world_steps is {num_world_steps:,}, and max_world_steps has room for {max(most, 0):,} after the "
            "observed ones; predict fewer, or load with a larger max_world_steps"
        )
    return num_world_steps
