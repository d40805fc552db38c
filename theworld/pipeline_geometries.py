"""Geometries of Cosmos's diffusion models and their text encoders: "tiny", and the real ones beside "4b".

In: a size's name and a generation of Cosmos-Predict. Out: plain dictionaries for diffusers' transformer and scheduler,
and for transformers' text encoder; or the two models without weights.
"""

from dataclasses import dataclass, replace
from typing import Any

from theworld.geometries import check_size

PREDICT_2, PREDICT_2_5 = "predict2", "predict2.5"
GENERATION_NAMES = (PREDICT_2, PREDICT_2_5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineGeometry:
    """Shapes of what a Cosmos repository holds beside its VAE.

    Args:
        generation: one of `GENERATION_NAMES`.
        transformer_config: keyword arguments of `diffusers.CosmosTransformer3DModel`.
        text_encoder_config: keyword arguments of `transformers.T5Config`, or of `Qwen2_5_VLConfig` for Predict 2.5.
        scheduler_config: keyword arguments of diffusers' scheduler of the generation.
    """

    generation: str = PREDICT_2
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

# As nvidia/Cosmos-Predict2.5-2B: the transformer projects the text, which is every layer of Qwen2.5-VL side by side.
_SCHEDULER_2_5 = {
    "use_flow_sigmas": True,
    "use_karras_sigmas": True,
    "prediction_type": "flow_prediction",
    "sigma_max": 200.0,
    "sigma_min": 0.01,
}
_QWEN_TINY = {
    "text_config": {
        "vocab_size": 320,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    },
    "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
}
_QWEN_7B = {
    "text_config": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    },
}


def pipeline_geometry(size: str, *, channels: int = 16, generation: str = PREDICT_2) -> PipelineGeometry:
    """Return the geometry of a size, for a VAE of so many latent channels.

    Raises:
        ValueError: if there is no such size or generation.
    """
    check_size(size)
    if generation not in GENERATION_NAMES:
        raise ValueError(f"no generation is named {generation!r}; there are {', '.join(GENERATION_NAMES)}")
    shape = {"tiny": _TINY, "4b": _4B}[size]
    transformer: dict[str, Any] = {"in_channels": channels + 1, "out_channels": channels}  # and what is observed
    transformer |= shape.transformer_config
    if generation == PREDICT_2:
        return replace(shape, transformer_config=transformer)
    qwen: dict[str, Any] = {"tiny": _QWEN_TINY, "4b": _QWEN_7B}[size]
    text = qwen["text_config"]
    transformer |= {
        "use_crossattn_projection": True,
        "crossattn_proj_in_channels": text["num_hidden_layers"] * text["hidden_size"],
        "encoder_hidden_states_channels": transformer["text_embed_dim"],
    }
    return PipelineGeometry(
        generation=generation,
        transformer_config=transformer,
        text_encoder_config=qwen,
        scheduler_config=_SCHEDULER_2_5,
    )


def build_transformer(shape: PipelineGeometry) -> Any:
    """Build the diffusion transformer on torch's current default device and dtype."""
    from diffusers import CosmosTransformer3DModel

    return CosmosTransformer3DModel(**shape.transformer_config)


def build_text_encoder(shape: PipelineGeometry) -> Any:
    """Build the text encoder on torch's current default device and dtype."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, T5Config, T5EncoderModel

    if shape.generation == PREDICT_2:
        return T5EncoderModel(T5Config(**shape.text_encoder_config))
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**shape.text_encoder_config))


def build_scheduler(shape: PipelineGeometry) -> Any:
    """Build the scheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    scheduler: Any = FlowMatchEulerDiscreteScheduler if shape.generation == PREDICT_2 else UniPCMultistepScheduler
    return scheduler(**shape.scheduler_config)


def build_on_meta(shape: PipelineGeometry) -> dict[str, Any]:
    """Build the transformer and the text encoder without weights, by the names of their folders."""
    import torch

    with torch.device("meta"):
        return {"transformer": build_transformer(shape), "text_encoder": build_text_encoder(shape)}
