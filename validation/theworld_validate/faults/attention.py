"""Faults of attention and position: the weights are right, and tokens see the wrong ones or stand elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import fault, load_with, text_model, wrap_forward
from theworld_validate.faults.needs import Need

GEMMA = "transformers.models.gemma3.modeling_gemma3"
MASK = r"\(attention_mask\)"


def _config(subject: Any) -> Any:
    from theworld import TheWorldConfig

    return TheWorldConfig.from_pretrained(subject.checkpoint)


@fault(
    "attention",
    "transformers #39067, #41944",
    "modules",
    r"",
    Cause.ATTENTION_IMPLEMENTATION,
    how="load",
    needs=(Need.ATTENTION,),
)
def eager_attention(subject: Any) -> Any:
    return load_with(subject, attn_implementation="eager")


@fault("attention", "transformers #30395", "modules", r"vision_tower", Cause.ATTENTION_IMPLEMENTATION)
def attention_lost_in_vision(model: Any) -> None:
    model.set_attn_implementation({"vision_config": "eager"})


@fault("attention", "transformers #30395", "modules", r"language_model", Cause.ATTENTION_IMPLEMENTATION)
def attention_lost_in_text(model: Any) -> None:
    model.set_attn_implementation({"text_config": "eager"})


@fault("attention", "transformers #39389", "trace", MASK, Cause.MASK)
def token_types_dropped(model: Any) -> None:
    wrap_forward(model.model, lambda kwargs: kwargs.update(token_type_ids=None))


@fault("attention", "transformers #38080", "trace", MASK, Cause.MASK, how="around")
@contextmanager
def images_see_each_other(*_: Any) -> Iterator[None]:
    def one_block(token_type_ids: torch.Tensor, device: Any = None) -> torch.Tensor:
        return torch.where(token_type_ids == 1, 0, -1).to(device)

    with mock.patch(f"{GEMMA}.get_block_sequence_ids_for_mask", one_block):
        yield


@fault("attention", "transformers #46850", "trace", MASK, Cause.MASK, how="around")
@contextmanager
def sliding_mask_is_full(*_: Any) -> Iterator[None]:
    import transformers.models.gemma3.modeling_gemma3 as gemma

    original = gemma.create_masks_for_vision_model

    def full_everywhere(*args: Any, **kwargs: Any) -> dict[str, Any]:
        masks = original(*args, **kwargs)
        return {**masks, "sliding_attention": masks["full_attention"]}

    with mock.patch(f"{GEMMA}.create_masks_for_vision_model", full_everywhere):
        yield


@fault("attention", "padding mask dropped", "trace", MASK, Cause.MASK)
def padding_mask_dropped(model: Any) -> None:
    def all_ones(kwargs: dict[str, Any]) -> None:
        if isinstance(kwargs.get("attention_mask"), torch.Tensor) and kwargs.get("past_key_values") is None:
            kwargs["attention_mask"] = torch.ones_like(kwargs["attention_mask"])

    wrap_forward(model.model, all_ones)


@fault("attention", "code that expects left padding", "trace", rf"right_padded_batch/.*{MASK}", Cause.MASK)
def right_padding_mask_dropped(model: Any) -> None:
    def all_ones(kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.dim() == 2 and not mask[:, -1].all():
            kwargs["attention_mask"] = torch.ones_like(mask)

    wrap_forward(model.model, all_ones)


@fault("attention", "transformers #29029", "trace", r"rotary_emb", Cause.POSITIONS)
def positions_from_the_mask(model: Any) -> None:
    def from_mask(kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and kwargs.get("past_key_values") is None:
            kwargs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)

    wrap_forward(model.model, from_mask)


@fault("attention", "off-by-one positions", "trace", r"rotary_emb", Cause.POSITIONS)
def positions_shifted(model: Any) -> None:
    def shifted(kwargs: dict[str, Any]) -> None:
        if kwargs.get("inputs_embeds") is not None and kwargs.get("past_key_values") is None:
            length = kwargs["inputs_embeds"].shape[1]
            kwargs["position_ids"] = torch.arange(1, length + 1, device=kwargs["inputs_embeds"].device)[None]

    wrap_forward(text_model(model), shifted)


@fault("attention", "global scaling missing", "buffers", r"full_attention_inv_freq", Cause.BUFFER_VALUE)
def global_rope_unscaled(model: Any) -> None:
    rotary = text_model(model).rotary_emb
    rotary.full_attention_inv_freq.mul_(model.config.text_config.rope_parameters["full_attention"]["factor"])


@fault("attention", "sliding layers scaled", "buffers", r"sliding_attention_inv_freq", Cause.BUFFER_VALUE)
def sliding_rope_scaled(model: Any) -> None:
    text_model(model).rotary_emb.sliding_attention_inv_freq.div_(8.0)


@fault("attention", "transformers #41922", "config", r"rope_parameters", Cause.CONFIG_VALUE, how="load")
def rope_parameters_swapped(subject: Any) -> Any:
    config = _config(subject)
    rope = config.text_config.rope_parameters
    rope["full_attention"], rope["sliding_attention"] = rope["sliding_attention"], rope["full_attention"]
    return load_with(subject, config=config)


@fault("attention", "wrong layer pattern", "config", r"layer_types", Cause.CONFIG_VALUE, how="load")
def wrong_layer_pattern(subject: Any) -> Any:
    config = _config(subject)
    types = config.text_config.layer_types
    types[4], types[5] = types[5], types[4]
    return load_with(subject, config=config)


@fault("attention", "wrong window", "config", r"sliding_window", Cause.CONFIG_VALUE, how="load")
def wrong_window(subject: Any) -> Any:
    config = _config(subject)
    config.text_config.sliding_window //= 2
    return load_with(subject, config=config)


@fault("attention", "sliding cache past its window", "outputs", r"cached_decode/|cache\[", Cause.CACHE)
def cache_without_window(model: Any) -> None:
    from transformers import DynamicCache

    def unwindowed(kwargs: dict[str, Any]) -> None:
        if kwargs.get("use_cache") and kwargs.get("past_key_values") is None:
            kwargs["past_key_values"] = DynamicCache()

    wrap_forward(model.model, unwindowed)


@fault("attention", "query scaling", "modules", r"layers\.4\.self_attn", Cause.MODULE_ATTRIBUTE)
def wrong_query_scale(model: Any) -> None:
    attention = text_model(model).layers[4].self_attn
    attention.scaling = attention.scaling * 2.0
