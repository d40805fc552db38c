"""Cosmos looks ahead: from the latents of a clip to those of the steps that follow.

In: observed latents, and a `RolloutConfig`. Out: a `Rollout`. The world model is loaded on the first rollout, and is
no part of the model that asks: not counted, saved, trained, copied, nor moved with it.
"""

# B clips, C latent channels, T observed latent steps, n predicted ones, H W latent grid

from typing import Any

import torch

from theworld.checkpoints.vae_rules import TEMPORAL_COMPRESSION
from theworld.cosmos_components import RepositoryParts
from theworld.rollout_cache import RolloutCache
from theworld.rollout_config import Guardrail, RolloutConfig, check_num_world_steps
from theworld.safety_checker import check_text, resolve_checker


class CosmosWorldModel:
    """The parts of one Cosmos repository that predict, loaded as they are needed.

    Args:
        cosmos_model_name_or_path: a Cosmos-Predict2 or Predict2.5 repository: a folder or a hub id.
        vae_config: of the VAE that made the latents.
        dtype: of the transformer and the text encoder.
        parts: what loads them; from the repository's files by default.
    """

    def __reduce__(self) -> Any:
        """A copy, in this process or another, loads for itself, when it is asked."""
        return CosmosWorldModel, (self._name, self._vae_config, self._dtype)

    def __init__(
        self, cosmos_model_name_or_path: str, vae_config: dict[str, Any], dtype: torch.dtype, parts: Any = None
    ) -> None:
        self._name, self._vae_config, self._dtype = cosmos_model_name_or_path, vae_config, dtype
        self._parts = parts or RepositoryParts(cosmos_model_name_or_path, dtype)
        self._pipeline: Any = None
        self._text_encoder: Any = None
        self._embeds: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor | None]] = {}
        self._checker: tuple[Any, Any] | None = None

    def is_for(self, cosmos_model_name_or_path: str, dtype: torch.dtype) -> bool:
        """Whether this is the world model of a repository, in a dtype."""
        return (self._name, self._dtype) == (cosmos_model_name_or_path, dtype)

    @property
    def pipeline(self) -> Any:
        """diffusers' pipeline on latents; without a text encoder until a prompt needs one."""
        if self._pipeline is None:
            from theworld.cosmos_pipelines import build_pipeline

            transformer = self._parts.transformer()
            takes, makes = transformer.config.in_channels - 1, self._vae_config["z_dim"]
            if takes != makes:
                raise ValueError(
                    f"{self._name}: its transformer takes {takes} latent channels, and the model's VAE makes {makes}; "
                    "name the repository that the VAE is from"
                )
            self._pipeline = build_pipeline(
                self._parts.generation.pipeline,
                transformer,
                self._parts.scheduler(),
                self._vae_config,
                self._dtype,
            )
        return self._pipeline

    def check_text(self, config: RolloutConfig, device: torch.device) -> tuple[Guardrail, ...]:
        """Have the safety checker that was chosen look at the prompt."""
        if self._checker is None or self._checker[0] is not config.safety_checker:
            self._checker = config.safety_checker, resolve_checker(config.safety_checker)
        return check_text(self._checker[1], config, device)

    @torch.no_grad()
    def embed(self, config: RolloutConfig, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The embeddings of the prompt, and with guidance of the negative one: (1, length, text_embed_dim)."""
        given = config.prompt_embeds, config.negative_prompt_embeds
        positive, negative = (None if e is None else e.to(device=device, dtype=self._dtype) for e in given)
        if positive is not None and (negative is not None or not config.uses_guidance):
            return positive, negative if config.uses_guidance else None
        key = config.prompt, config.negative_prompt, config.uses_guidance
        is_plain = given == (None, None)
        if not is_plain or key not in self._embeds:
            pipeline = self.pipeline
            if self._text_encoder is None:
                self._text_encoder, tokenizer = self._parts.text_encoder()
                pipeline.register_modules(text_encoder=self._text_encoder, tokenizer=tokenizer)
            bring(self._text_encoder, device)
            made = pipeline.encode_prompt(
                prompt=config.prompt,
                negative_prompt=config.negative_prompt,
                do_classifier_free_guidance=config.uses_guidance,
                prompt_embeds=positive,
                negative_prompt_embeds=negative,
                device=device,
            )
            if config.offload:
                put_away(self._text_encoder)
            if not is_plain:
                return made
            self._embeds = {key: made}  # of one prompt: a run asks the same one again and again
        positive, negative = self._embeds[key]
        return positive.to(device), None if negative is None else negative.to(device)

    def predict(self, observed_CTHW: torch.Tensor, num_world_steps: int, config: RolloutConfig) -> torch.Tensor:
        """Predict the steps after one clip's.

        Args:
            observed_CTHW: normalised latents, on the device that the rollout is to run on.

        Returns:
            (C, n, H, W), float32.

        Raises:
            ValueError: for a clip, or a number of steps, that the world model cannot take.
        """
        self._check_sizes(observed_CTHW)
        if config.cache_dir is None:
            return self._run(observed_CTHW, num_world_steps, config)
        cache = RolloutCache(config.cache_dir, self._name, self._parts.repository, self._dtype)
        path = cache.path_of(observed_CTHW, num_world_steps, config)
        if (found := cache.read(path)) is not None:
            return found.to(observed_CTHW.device)
        predicted = self._run(observed_CTHW, num_world_steps, config)
        cache.write(predicted, path)
        return predicted

    def _check_sizes(self, observed_CTHW: torch.Tensor) -> None:
        height, width = observed_CTHW.shape[2:]
        if height % 2 or width % 2:
            raise ValueError(
                f"world_frames have a latent grid of {height} x {width}, and a rollout needs even sides; "
                "resize them to multiples of 16 pixels"
            )
        most = self._parts.generation.max_observed_steps
        if most is not None and observed_CTHW.shape[1] > most:
            raise ValueError(
                f"{self._name} predicts from 1 to {most} observed latent steps, got {observed_CTHW.shape[1]}; give at "
                f"most {1 + TEMPORAL_COMPRESSION * (most - 1)} frames"
            )

    @torch.no_grad()
    def _run(self, observed_CTHW: torch.Tensor, num_world_steps: int, config: RolloutConfig) -> torch.Tensor:
        from theworld.cosmos_pipelines import Conditioning

        device, num_observed = observed_CTHW.device, observed_CTHW.shape[1]
        positive, negative = self.embed(config, device)
        pipeline = self.pipeline
        longest = max(pipeline.transformer.rope.max_size)
        check_num_world_steps(num_world_steps, most=longest - num_observed)
        bring(pipeline.transformer, device)
        arguments: dict[str, Any] = {"fps": config.fps} if self._parts.generation.takes_fps else {}
        latents_CTHW = pipeline.run(
            Conditioning(
                observed=observed_CTHW.float(),
                noise=draw_noise(observed_CTHW.shape, num_world_steps, config.seed).to(device),
            ),
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            **arguments,
        )
        if config.offload:
            put_away(pipeline.transformer)
        predicted = latents_CTHW[:, num_observed:].contiguous()
        if not predicted.is_meta and not bool(torch.isfinite(predicted).all()):
            raise ValueError(f"{self._name}: a rollout made numbers that are not finite; load in bfloat16 or float32")
        return predicted


def bring(part: Any, device: torch.device) -> None:
    """Move a part to the device that it is to run on."""
    part.to(device)


def put_away(part: Any) -> None:
    """Move a part to the CPU, until it is needed again."""
    part.to("cpu")


def draw_noise(observed_shape: Any, num_world_steps: int, seed: int) -> torch.Tensor:
    """The noise that a rollout starts from, (C, T + n, H, W), float32: drawn on the CPU, equal on every device."""
    channels, num_observed, height, width = observed_shape
    generator = torch.Generator("cpu").manual_seed(seed)
    shape = (channels, num_observed + num_world_steps, height, width)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def extend_latents(
    world_model: CosmosWorldModel,
    latents_BCTHW: torch.Tensor,
    num_steps_B: torch.Tensor,
    num_world_steps: int,
    config: RolloutConfig,
) -> torch.Tensor:
    """Put each clip's predicted steps after its observed ones, which stay as they are.

    Every clip is predicted alone, so that the clips beside it change no bit of it.

    Args:
        num_steps_B: how many of the T steps each clip has observed; 0 for no clip.

    Returns:
        (B, C, T + n, H, W), zeros after a clip's last step. No gradient flows through what is predicted.
    """
    rows = []
    for latents_CTHW, num_observed in zip(latents_BCTHW, num_steps_B.tolist(), strict=True):
        observed = latents_CTHW[:, :num_observed]
        channels, num_all, height, width = latents_CTHW.shape
        parts = [observed]
        if num_observed:
            parts.append(world_model.predict(observed.detach(), num_world_steps, config).to(observed.dtype))
        num_left = num_all + num_world_steps - sum(part.shape[1] for part in parts)
        parts.append(observed.new_zeros(channels, num_left, height, width))
        rows.append(torch.cat(parts, dim=1))
    return torch.stack(rows)
