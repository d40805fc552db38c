"""The two geometries of Cosmos's diffusion model and its text encoder: "tiny", and the real one beside "4b".

In: a size's name. Out: plain dictionaries for diffusers' transformer and scheduler, and transformers' T5.
"""

from dataclasses import dataclass, replace
from typing import Any

from theworld.geometries import check_size


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineGeometry:
    """Shapes of what a Cosmos repository holds beside its VAE.

    Args:
        transformer_config: keyword arguments of `diffusers.CosmosTransformer3DModel`.
        text_encoder_config: keyword arguments of `transformers.T5Config`.
        scheduler_config: keyword arguments of `diffusers.FlowMatchEulerDiscreteScheduler`.
    """

    transformer_config: dict[str, Any]
    text_encoder_config: dict[str, Any]
    scheduler_config: dict[str, Any]


# As nvidia/Cosmos-Predict2-2B-Video2World has it.
_SCHEDULER = {"use_karras_sigmas": True}  # its pipeline adds the sigmas

_TINY = PipelineGeometry(
    transformer_config={
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "mlp_ratio": 2,
        "text_embed_dim": 32,
        "adaln_lora_dim": 4,
        "max_size": [4, 32, 32],
        "patch_size": [1, 2, 2],
        "rope_scale": [1.0, 3.0, 3.0],
        "extra_pos_embed_type": None,
    },
    text_encoder_config={
        "vocab_size": 256,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "relu",
    },
    scheduler_config=_SCHEDULER,
)

_4B = PipelineGeometry(
    transformer_config={
        "num_attention_heads": 16,
        "attention_head_dim": 128,
        "num_layers": 28,
        "mlp_ratio": 4.0,
        "text_embed_dim": 1024,
        "adaln_lora_dim": 256,
        "max_size": [128, 240, 240],
        "patch_size": [1, 2, 2],
        "rope_scale": [1.0, 3.0, 3.0],
        "extra_pos_embed_type": None,
    },
    text_encoder_config={
        "vocab_size": 32_128,
        "d_model": 1024,
        "d_kv": 128,
        "d_ff": 65_536,
        "num_layers": 24,
        "num_heads": 128,
        "feed_forward_proj": "relu",
    },
    scheduler_config=_SCHEDULER,
)


def pipeline_geometry(size: str, *, channels: int = 16) -> PipelineGeometry:
    """Return the geometry of a size, for a VAE of so many latent channels.

    Raises:
        ValueError: if there is no such size.
    """
    check_size(size)
    shape = {"tiny": _TINY, "4b": _4B}[size]
    of_latents = {"in_channels": channels + 1, "out_channels": channels}  # and the mask of what is observed
    return replace(shape, transformer_config={**of_latents, **shape.transformer_config})


def build_on_meta(shape: PipelineGeometry) -> dict[str, Any]:
    """Build the transformer and the text encoder without weights, by the names of their folders."""
    import torch
    from diffusers import CosmosTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    with torch.device("meta"):
        return {
            "transformer": CosmosTransformer3DModel(**shape.transformer_config),
            "text_encoder": T5EncoderModel(T5Config(**shape.text_encoder_config)),
        }
