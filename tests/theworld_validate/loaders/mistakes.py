"""Candidates after public bug reports that are not in `subjects.loaders`."""

import functools
from typing import Any

from transformers import Gemma3ForConditionalGeneration, StaticCache


class GatheredSave(Gemma3ForConditionalGeneration):
    """Saves copies that share nothing: the tied table lies in the files twice (transformers #48972)."""

    def save_pretrained(self, save_directory: Any, *inputs: Any, **arguments: Any) -> None:
        state = {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}
        super().save_pretrained(save_directory, *inputs, **{**arguments, "state_dict": state})


class CountIgnored(Gemma3ForConditionalGeneration):
    """The count of accumulated batches never reaches the loss (transformers #37197)."""

    @functools.wraps(Gemma3ForConditionalGeneration.forward)
    def forward(self, *inputs: Any, **arguments: Any) -> Any:
        arguments.pop("num_items_in_batch", None)
        return super().forward(*inputs, **arguments)


class OneTokenTooFew(StaticCache):
    """A preallocated cache that loses the first token of sliding layers (transformers #37574)."""

    def update(self, keys: Any, values: Any, layer_idx: int, *others: Any, **named: Any) -> Any:
        keys, values = super().update(keys, values, layer_idx, *others, **named)
        if getattr(self.layers[layer_idx], "is_sliding", False):
            keys, values = keys.clone(), values.clone()
            keys[:, :, 0], values[:, :, 0] = 0, 0
        return keys, values


class StaticWrong(Gemma3ForConditionalGeneration):
    def generate(self, *inputs: Any, **arguments: Any) -> Any:
        if arguments.get("cache_implementation") == "static":
            arguments.pop("cache_implementation")
            cache = OneTokenTooFew(config=self.config.get_text_config(), max_cache_len=4096)
            arguments["past_key_values"] = cache
        return super().generate(*inputs, **arguments)
