"""Models with one fault each, that only one question sees: Gemma 3 in everything else."""

import functools
import math
from typing import Any

import torch
from transformers import DynamicCache, Gemma3ForConditionalGeneration, StaticCache


class CountIgnored(Gemma3ForConditionalGeneration):
    """The trainer's token count never reaches the loss (transformers #37197)."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("num_items_in_batch", None)
        return super().forward(*args, **kwargs)


class EmbedsScaledTwice(Gemma3ForConditionalGeneration):
    """Embeddings that are given are scaled as if they came from the table."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("inputs_embeds") is not None:
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"] * self.get_input_embeddings().embed_scale
        return super().forward(*args, **kwargs)


class RightPaddingSeen(Gemma3ForConditionalGeneration):
    """Only padding on the left is masked."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        if mask is not None and kwargs.get("past_key_values") is None and not mask[:, -1].all():
            kwargs["attention_mask"] = torch.ones_like(mask)
        return super().forward(*args, **kwargs)


class SingleRowsElsewhere(Gemma3ForConditionalGeneration):
    """A prompt alone takes another path than in a batch."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if kwargs["input_ids"].shape[0] == 1:
            output.logits = output.logits * 1.0078125
        return output


class _OneTokenTooFew(StaticCache):
    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        keys, values = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if getattr(self.layers[layer_idx], "is_sliding", False):
            keys, values = keys.clone(), values.clone()
            keys[:, :, 0], values[:, :, 0] = 0, 0
        return keys, values


class StaticCacheShort(Gemma3ForConditionalGeneration):
    """The preallocated cache keeps one token too few on sliding layers (transformers #37574)."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("cache_implementation") == "static":
            kwargs.pop("cache_implementation")
            kwargs["past_key_values"] = _OneTokenTooFew(config=self.config.get_text_config(), max_cache_len=512)
        return super().generate(*args, **kwargs)


class _NeverReordered(DynamicCache):
    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        pass


class BeamsMixed(Gemma3ForConditionalGeneration):
    """The cache is not reordered when beams are."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("num_beams", 1) > 1:
            kwargs["past_key_values"] = _NeverReordered(config=self.config.get_text_config())
        return super().generate(*args, **kwargs)


class DecodesNothing(Gemma3ForConditionalGeneration):
    """The first forward is right; what follows through the cache is not a number."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if kwargs["input_ids"].shape[1] == 1:
            output.logits = output.logits * math.nan
        return output


class ReturnsTuple(Gemma3ForConditionalGeneration):
    """Answers as a tuple, without a cache."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **{**kwargs, "use_cache": False})
        return tuple(value for value in (output.loss, output.logits) if value is not None)


class LossRaises(Gemma3ForConditionalGeneration):
    """Raises where a loss is asked for, and where beams are."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("labels") is not None:
            raise KeyError("no labels, please")
        return super().forward(*args, **kwargs)
