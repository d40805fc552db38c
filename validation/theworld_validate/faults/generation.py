"""Faults of generation and of training's loss: the prompt's forward is right, and what is made of it is not."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import become, fault, text_model, wrap_forward, wrap_generate
from theworld_validate.faults.needs import Need

_ROOM = 256  # tokens that a static cache has beyond the prompt


@fault("generation", "transformers #40917", "generation", r"image", Cause.GENERATION)
def token_types_dropped_in_generate(model: Any) -> None:
    original = type(model)

    class Dropping(original):
        def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
            prepared = super().prepare_inputs_for_generation(*args, **kwargs)
            prepared["token_type_ids"] = None
            return prepared

    become(model, Dropping)


@fault("generation", "transformers #25420", "config", r"use_cache", Cause.CONFIG_VALUE)
def cache_switched_off(model: Any) -> None:
    model.config.text_config.use_cache = False
    model.generation_config.use_cache = False


@fault(
    "generation",
    "a repetition penalty crept in",
    "config",
    r"repetition_penalty",
    Cause.CONFIG_VALUE,
    needs=(Need.GENERATION,),
)
def repetition_penalty(model: Any) -> None:
    model.generation_config.repetition_penalty = 1.3


@fault("generation", "a random draw a step", "generation", r"rng_state|sampled", Cause.RNG_USE)
def random_draw_in_forward(model: Any) -> None:
    norm = text_model(model).norm
    original = type(norm)

    class Drawing(original):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(1)
            return super().forward(x)

    become(norm, Drawing)


@fault("generation", "beams keep each other's cache", "generation", r"/beams", Cause.BEAMS)
def beams_not_reordered(model: Any) -> None:
    def unordered(_model: Any, kwargs: dict[str, Any]) -> Any:
        if kwargs.get("num_beams", 1) == 1:
            return nullcontext()
        return mock.patch("transformers.cache_utils.Cache.reorder_cache", return_value=None)

    wrap_generate(model, unordered)


@contextmanager
def _static_cache_without_first_token() -> Iterator[None]:
    """A preallocated cache whose sliding layers have forgotten their oldest token."""
    from transformers import StaticCache

    original = StaticCache.update

    def update(cache: Any, keys: Any, values: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        keys, values = original(cache, keys, values, layer_idx, *args, **kwargs)
        if getattr(cache.layers[layer_idx], "is_sliding", False):
            keys, values = keys.clone(), values.clone()
            keys[:, :, 0], values[:, :, 0] = 0, 0
        return keys, values

    with mock.patch.object(StaticCache, "update", update):
        yield


@fault("generation", "transformers #37574, #37972", "generation", r"/static", Cause.STATIC_CACHE)
def static_cache_one_token_short(model: Any) -> None:
    def short(_model: Any, kwargs: dict[str, Any]) -> Any:
        is_static = kwargs.get("cache_implementation") == "static"
        return _static_cache_without_first_token() if is_static else nullcontext()

    wrap_generate(model, short)


@fault("generation", "transformers #37197, #39123", "outputs", r"loss_by_count", Cause.LOSS_COUNT)
def loss_count_ignored(model: Any) -> None:
    wrap_forward(model, lambda kwargs: kwargs.pop("num_items_in_batch", None))


@fault("generation", "embeddings scaled a second time", "outputs", r"embeds/", Cause.EMBEDDED_INPUTS)
def given_embeddings_scaled_again(model: Any) -> None:
    def scaled(kwargs: dict[str, Any]) -> None:
        # With images Gemma finds the placeholders by their embeddings, and says so if they are not there.
        if kwargs.get("inputs_embeds") is not None and kwargs.get("pixel_values") is None:
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"] * model.config.text_config.hidden_size**0.5

    wrap_forward(model, scaled)


@fault("generation", "a wrapper passes on only what its author knew", "outputs", r"arguments/", Cause.FORWARD_ARGUMENTS)
def hidden_states_not_passed_on(model: Any) -> None:
    wrap_forward(model, lambda kwargs: kwargs.pop("output_hidden_states", None))


@fault("generation", "a fast path that hooks switch off", "outputs", r"untraced/", Cause.UNTRACED)
def fast_path_without_hooks(model: Any) -> None:
    """Decoding steps by hand are all taken at position 0 where nobody watches; generate's name `logits_to_keep`."""

    def first_position(kwargs: dict[str, Any]) -> None:
        is_watched = bool(text_model(model).norm._forward_hooks)
        if not is_watched and kwargs.get("past_key_values") is not None and "logits_to_keep" not in kwargs:
            kwargs["position_ids"] = torch.zeros_like(kwargs["input_ids"])

    wrap_forward(model, first_position)
