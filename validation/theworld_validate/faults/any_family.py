"""Faults that any model can have: in a weight, a module or a norm that every family has, wherever it lies."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from theworld_validate.compare.causes import Cause
from theworld_validate.documents.observations import Section
from theworld_validate.faults.base import FAMILY_FAULTS, fault, integers, wrap_forward
from theworld_validate.faults.needs import Need
from theworld_validate.faults.places import first_norm, middle_module, middle_weight, module_in, norm_in, weight_in

_of = functools.partial(fault, catalogue=FAMILY_FAULTS)
_NAN = (Cause.NON_FINITE_WEIGHT, Cause.WEIGHT_BITS)
# Where tensors first differ there is no more to say than that other numbers came in.
_OTHER_INPUTS = (Cause.KERNEL_CHOICE, Cause.MASK, Cause.EMBEDDED_INPUTS, Cause.GENERATION)


def _at(pick: Callable[[Section], str], section: str) -> Callable[[Mapping[str, Section]], str]:
    return lambda sections: f"^{re.escape(pick(sections[section]))}$"


_WEIGHT = _at(middle_weight, "parameters")
_MODULE = _at(middle_module, "modules")
_NORM = _at(first_norm, "parameters")


@_of("load", "one-ulp change", "parameters", "", Cause.WEIGHT_BITS, place=_WEIGHT, needs=())
def any_weight_one_ulp(model: Any) -> None:
    integers(weight_in(model)).view(-1)[3] ^= 1


@_of("load", "transformers #46620", "parameters", "", Cause.REINITIALISED, place=_WEIGHT, needs=())
def any_weight_initialised_again(model: Any) -> None:
    nn.init.normal_(weight_in(model), std=0.02)


@_of("load", "a diverged step was kept", "parameters", "", *_NAN, place=_WEIGHT, needs=())
def any_weight_not_finite(model: Any) -> None:
    weight_in(model).data.view(-1)[5] = float("nan")


@_of("load", "freeze applied", "parameters", "", Cause.TRAINABLE_FLAG, place=_WEIGHT, needs=())
def any_weight_frozen(model: Any) -> None:
    weight_in(model).requires_grad_(False)


@_of("load", "peft #816, trl #4457", "parameters", "", Cause.WEIGHT_DTYPE, place=_NORM, needs=(Need.NORM,))
def any_norm_upcast(model: Any) -> None:
    norm = norm_in(model)
    norm.data = norm.data.to(torch.float64 if norm.dtype is torch.float32 else torch.float32)


@_of("runtime", "leftover forward hook", "modules", "", Cause.HOOK, place=_MODULE, needs=())
def any_module_hook(model: Any) -> None:
    module_in(model).register_forward_hook(lambda *_: None)


@_of("runtime", "one module in train mode", "modules", "", Cause.MODE_FLAG, place=_MODULE, needs=())
def any_module_in_train_mode(model: Any) -> None:
    module_in(model).training = True


@_of(
    "generation",
    "embeddings scaled a second time",
    "outputs",
    r"embeds/",
    Cause.EMBEDDED_INPUTS,
    needs=(Need.EMBEDDINGS,),
)
def any_embeddings_scaled_again(model: Any) -> None:
    def scaled(kwargs: dict[str, Any]) -> None:
        if kwargs.get("inputs_embeds") is not None and kwargs.get("input_ids") is None:
            kwargs["inputs_embeds"] = kwargs["inputs_embeds"] * 2

    wrap_forward(model, scaled)


@_of("attention", "pixels normalised twice", "trace", r"^image/", *_OTHER_INPUTS, needs=(Need.IMAGES,))
def any_pixels_normalised_twice(model: Any) -> None:
    def twice(kwargs: dict[str, Any]) -> None:
        if kwargs.get("pixel_values") is not None:
            kwargs["pixel_values"] = (kwargs["pixel_values"] - 0.5) / 0.5

    wrap_forward(model, twice)


@_of(
    "attention",
    "a decoder's ids shifted once more",
    "trace",
    r"/decoder|/model\.decoder",
    *_OTHER_INPUTS,
    needs=(Need.DECODER,),
)
def any_decoder_ids_shifted(model: Any) -> None:
    def shifted(kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("decoder_input_ids")
        if ids is not None and kwargs.get("past_key_values") is None:
            kwargs["decoder_input_ids"] = ids.roll(1, dims=-1)

    wrap_forward(model, shifted)
