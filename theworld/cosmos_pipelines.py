"""diffusers' own Cosmos pipelines, conditioned on latents in place of frames.

In: observed latents and noise. Out: latents of all steps. Only what takes frames is replaced (`prepare_latents`, which
would encode every padded frame, and sample the posterior); prompts, schedule, masks, guidance and the loop are theirs.
diffusers is imported at once: import this module where a rollout is made.
"""

# C latent channels, T observed latent steps, n predicted ones, H W latent grid

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.pipelines.cosmos.pipeline_cosmos2_5_predict import Cosmos2_5_PredictBasePipeline
from diffusers.pipelines.cosmos.pipeline_cosmos2_video2world import Cosmos2VideoToWorldPipeline

_PIXELS = 8  # a latent cell, each way: for the size of the padding mask, which is all zeros
_NUM_SPATIAL_HALVINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What is observed, and the noise that the rest starts from.

    Args:
        observed: (C, T, H, W), normalised latents of the observed steps, float32.
        noise: (C, T + n, H, W), standard normal, float32, for observed and predicted steps together.
    """

    observed: torch.Tensor
    noise: torch.Tensor


class _CheckedBefore:
    """In the place of a safety checker: the text was checked before it was encoded, and no video is made."""

    def to(self, device: Any) -> None:
        """Stay."""


class _VaeStandIn:
    """In the place of the VAE, which is the model's own and is not moved or run here."""

    temperal_downsample = (True,) * _NUM_SPATIAL_HALVINGS

    def __init__(self, vae_config: Mapping[str, Any], dtype: torch.dtype) -> None:
        names = ("z_dim", "latents_mean", "latents_std")
        self.config = SimpleNamespace(**{name: vae_config[name] for name in names})
        self.dtype = dtype


class _OnLatents:
    """What both pipelines share: they run where their transformer is, from a `Conditioning`."""

    conditioning: Conditioning
    transformer: Any

    @property
    def _execution_device(self) -> Any:
        return self.transformer.device

    def _observed_mask(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Observed latents with zeros after them, which of the steps are observed, and the same for each cell."""
        observed_CTHW, noise_CTHW = self.conditioning.observed, self.conditioning.noise
        num_observed = observed_CTHW.shape[1]
        latents_1CTHW = torch.zeros_like(noise_CTHW)[None]
        latents_1CTHW[:, :, :num_observed] = observed_CTHW
        indicator = latents_1CTHW.new_zeros(1, 1, latents_1CTHW.shape[2], 1, 1)
        indicator[:, :, :num_observed] = 1.0
        return latents_1CTHW, indicator, indicator.expand(-1, -1, -1, *noise_CTHW.shape[2:]).contiguous()

    def run(self, conditioning: Conditioning, **arguments: Any) -> torch.Tensor:
        """Run the pipeline on embedded prompts; return latents (C, T + n, H, W), normalised, float32."""
        self.conditioning = conditioning
        pipeline: Any = self
        pipeline.set_progress_bar_config(disable=True)
        height, width = (_PIXELS * side for side in conditioning.noise.shape[2:])
        frame = torch.zeros(1, 3, 1, height, width) + 0.5  # stands for the frames that nobody encodes
        try:
            made = pipeline(
                video=self._as_video(frame),
                height=height,
                width=width,
                num_frames=1,
                output_type="latent",
                return_dict=False,
                **arguments,
            )
        finally:
            del self.conditioning
        return made[0][0]

    def _as_video(self, frame: torch.Tensor) -> torch.Tensor:
        return frame


class LatentPredict2(_OnLatents, Cosmos2VideoToWorldPipeline):
    """`Cosmos2VideoToWorldPipeline` on latents."""

    def _as_video(self, frame: torch.Tensor) -> torch.Tensor:
        return frame.transpose(1, 2)

    def prepare_latents(self, *_: Any, **__: Any) -> Any:
        """As the pipeline's own, from latents: noise, conditioning, and indicators and masks with guidance or not."""
        sigma_max, sigma_data = (getattr(self.scheduler.config, name) for name in ("sigma_max", "sigma_data"))
        observed, indicator, mask = self._observed_mask()
        others = (indicator, mask) if self.do_classifier_free_guidance else (None, None)
        noise = self.conditioning.noise[None] * sigma_max
        return noise, observed * sigma_data, indicator, others[0], mask, others[1]

    def run(self, conditioning: Conditioning, **arguments: Any) -> torch.Tensor:
        """Run the pipeline, less the steps between equal sigmas: they change no bit, and the last one is one."""

        def stop_when_done(pipeline: Any, step: int, _t: Any, _tensors: Any) -> dict[str, Any]:
            pipeline._interrupt = self.is_done_after(step)
            return {}

        latents = super().run(conditioning, callback_on_step_end=stop_when_done, **arguments)
        return latents / self.scheduler.config.sigma_data

    def is_done_after(self, step: int) -> bool:
        """Whether all steps after this one lie between equal sigmas."""
        sigmas = self.scheduler.sigmas
        return bool((sigmas[step + 1 :] == sigmas[step + 1]).all())


class LatentPredict25(_OnLatents, Cosmos2_5_PredictBasePipeline):
    """`Cosmos2_5_PredictBasePipeline` on latents."""

    def prepare_latents(self, *_: Any, **__: Any) -> Any:
        """As the pipeline's own, from latents: noise, conditioning, mask and indicator."""
        observed, indicator, mask = self._observed_mask()
        return self.conditioning.noise[None], observed, mask, indicator

    def run(self, conditioning: Conditioning, **arguments: Any) -> torch.Tensor:
        """Run the pipeline; one latent step is what it may be told of, `prepare_latents` knows how many there are."""
        return super().run(conditioning, num_latent_conditional_frames=1, **arguments)


def give_no_padding(transformer: Any) -> None:
    """Have a transformer see no padding, without torchvision, with which it would resize a mask of zeros to zeros."""
    if not transformer.config.concat_padding_mask:
        return
    transformer.register_to_config(concat_padding_mask=False)

    def with_zeros(_module: Any, args: Any, kwargs: Any) -> Any:
        mask_BCTHW = kwargs["condition_mask"]  # the channel that the padding mask follows
        return args, {**kwargs, "condition_mask": torch.cat([mask_BCTHW, torch.zeros_like(mask_BCTHW)], dim=1)}

    transformer.register_forward_pre_hook(with_zeros, with_kwargs=True)


_BY_NAME = {pipeline.__bases__[-1].__name__: pipeline for pipeline in (LatentPredict2, LatentPredict25)}


def build_pipeline(
    name: str, transformer: Any, scheduler: Any, vae_config: Mapping[str, Any], dtype: torch.dtype
) -> Any:
    """The pipeline on latents in the place of diffusers' pipeline `name`; it has no text encoder yet."""
    give_no_padding(transformer)
    components: dict[str, Any] = {
        "text_encoder": None,
        "tokenizer": None,
        "transformer": transformer,
        "vae": _VaeStandIn(vae_config, dtype),
        "scheduler": scheduler,
        "safety_checker": _CheckedBefore(),
    }
    return _BY_NAME[name](**components)
