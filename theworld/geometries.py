"""The two geometries that checkpoints are made in: "tiny", and the real "4b".

In: a size's name, and a VAE's. Out: plain dictionaries for Gemma 3's config, the VAE's config and the tokenizer.
"""

from dataclasses import dataclass, replace
from typing import Any

from theworld.vae_geometries import DEFAULT_VAE, vae_config

SIZES = ("tiny", "4b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Shapes of one size of checkpoint.

    Args:
        gemma_config: keyword arguments of `Gemma3Config`, as google/gemma-3-4b-it stores them.
        vae_config: keyword arguments of `diffusers.AutoencoderKLWan`.
        num_tokens: the tokenizer's length, before the two world tokens.
        max_shard_bytes: where a new safetensors shard begins.
    """

    gemma_config: dict[str, Any]
    vae_config: dict[str, Any]
    num_tokens: int
    max_shard_bytes: int


# 6 + 2 layers give Gemma's pattern of five sliding layers to one full; the window is shorter than the
# probes; head_dim * heads is not the hidden size, as in the 4B model. No root that the model takes of a size is a power
# of two, so that a scale that is rounded otherwise shows.
_TINY = Geometry(
    gemma_config={
        "text_config": {
            "vocab_size": 1088,
            "hidden_size": 80,
            "intermediate_size": 160,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 32,
            "max_position_embeddings": 4096,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 48,
            "image_size": 56,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "patch_size": 7,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 16,
        "boi_token_index": 1022,
        "eoi_token_index": 1023,
        "image_token_index": 1024,
    },
    vae_config=vae_config(DEFAULT_VAE, "tiny"),
    num_tokens=1025,
    max_shard_bytes=400_000,
)

_4B = Geometry(
    gemma_config={
        "text_config": {
            "vocab_size": 262_208,
            "hidden_size": 2560,
            "intermediate_size": 10_240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 1024,
            "max_position_embeddings": 131_072,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "image_size": 896,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 256,
        "boi_token_index": 255_999,
        "eoi_token_index": 256_000,
        "image_token_index": 262_144,
    },
    vae_config=vae_config(DEFAULT_VAE, "4b"),
    num_tokens=262_145,
    max_shard_bytes=5_000_000_000,
)


def geometry(size: str, vae: str = DEFAULT_VAE) -> Geometry:
    """Return the geometry of a size, with one of the VAEs.

    Raises:
        ValueError: if there is no such size or VAE.
    """
    check_size(size)
    shape = {"tiny": _TINY, "4b": _4B}[size]
    return shape if vae == DEFAULT_VAE else replace(shape, vae_config=vae_config(vae, size))


def check_size(size: str) -> None:
    """Raise a `ValueError` if no checkpoint size has this name."""
    if size not in SIZES:
        raise ValueError(f"no checkpoint size is named {size!r}; there are {', '.join(SIZES)}")
