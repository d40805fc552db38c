"""Faults of calls that a caller makes and a probe's own forward does not: fewer arguments, others, and training."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import become, fault, text_model, wrap_forward


def _answer_otherwise(model: Any, change: Callable[[Any, dict[str, Any], Any], Any]) -> None:
    """Change what a model's forward returns, by its type: `change` is given the model, its arguments and the output."""
    original = type(model)

    class Answering(original):
        @functools.wraps(original.forward)  # generate reads the signature
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            return change(self, kwargs, super().forward(*inputs, **kwargs))

    become(model, Answering)


@fault("generation", "a mask of one's own where none is given", "outputs", r"arguments/bare", Cause.FORWARD_ARGUMENTS)
def left_out_mask_made_otherwise(model: Any) -> None:
    def without_mask(_model: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if kwargs.get("attention_mask") is None and kwargs.get("past_key_values") is None:
            output.logits = output.logits * 0
        return output

    _answer_otherwise(model, without_mask)


@fault("generation", "use_cache has another default", "outputs", r"arguments/bare", Cause.FORWARD_ARGUMENTS)
def no_cache_unless_asked(model: Any) -> None:
    def without_cache(_model: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if kwargs.get("use_cache") is None:
            output.past_key_values = None
        return output

    _answer_otherwise(model, without_cache)


@fault("generation", "a sub-config copied, then changed", "config", r"language_model\.config", Cause.CONFIG_VALUE)
def config_of_a_module_apart(model: Any) -> None:
    inner = text_model(model)
    inner.config = copy.deepcopy(inner.config)
    inner.config.use_cache = False


@fault("generation", "only the last position is kept", "outputs", r"arguments/(last|chosen)", Cause.FORWARD_ARGUMENTS)
def logits_to_keep_taken_from_the_start(model: Any) -> None:
    def turned(_model: Any, kwargs: dict[str, Any], output: Any) -> Any:
        kept = kwargs.get("logits_to_keep", 0)
        if isinstance(kept, torch.Tensor) or kept > 1:
            output.logits = output.logits.flip(1)
        return output

    _answer_otherwise(model, turned)


class _Plain(dict[str, Any]):
    """A dict whose items are attributes too, and no `ModelOutput`."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


@fault("generation", "a forward that returns a dict", "outputs", r"output_type", Cause.OUTPUT_CLASS)
def output_is_a_plain_dict(model: Any) -> None:
    def plain(_model: Any, kwargs: dict[str, Any], output: Any) -> Any:
        return _Plain(output) if kwargs.get("return_dict") is not False else output

    _answer_otherwise(model, plain)


@fault("gradients", "a term that training adds", "gradients", r"^\(loss\)", Cause.TRAINING_LOSS)
def loss_shifted_in_training(model: Any) -> None:
    def shifted(spoilt: Any, _kwargs: dict[str, Any], output: Any) -> Any:
        if spoilt.training and output.loss is not None:
            output.loss = output.loss + 1.0
        return output

    _answer_otherwise(model, shifted)


@fault("gradients", "texts weigh more than images", "gradients", r"\(text\)$", Cause.GRADIENT_PATH)
def text_gradients_scaled(model: Any) -> None:
    def scaled(_model: Any, kwargs: dict[str, Any], output: Any) -> Any:
        loss = None if isinstance(output, tuple) else output.loss
        if kwargs.get("pixel_values") is None and loss is not None and loss.requires_grad:
            loss.register_hook(lambda gradient: gradient * 10)
        return output

    _answer_otherwise(model, scaled)


@fault("gradients", "prompt tuning that learns nothing", "gradients", r"inputs_embeds", Cause.EMBEDDED_INPUTS)
def given_embeddings_detached(model: Any) -> None:
    def detached(kwargs: dict[str, Any]) -> None:
        if kwargs.get("inputs_embeds") is not None:
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"].detach()

    wrap_forward(model, detached)


@fault("gradients", "gradients of a step before", "parameters", r"", Cause.LEFTOVER_GRADIENT, needs=())
def gradients_left_by_the_loader(model: Any) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
