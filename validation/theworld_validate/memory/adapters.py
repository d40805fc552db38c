"""An adapter put on a model for one cell by PEFT itself, and taken off again.

In: a model, on tensors with data or without, and an `Adapter`. Out: the model with LoRA layers in the places of its
own, of which alone the adapter's and what is trained beside it require gradients; afterwards its own modules again.
"""

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from theworld_validate.memory.adapter_config import Adapter
from theworld_validate.results import InputError

_INSTALL = "pip install 'peft>=0.17'"


def attach(model: Any, adapter: Adapter, *, custom_layers: dict[type, type] | None = None) -> None:
    """Put an adapter on a model, in place, as `peft.get_peft_model` does: what else there is, is frozen.

    PEFT keeps its own default: an adapter's weights are float32, also on a model in bfloat16.

    Args:
        custom_layers: class of a model's layer -> class of its LoRA layer, where PEFT knows none.

    Raises:
        InputError: if PEFT is not installed, or the adapter does not fit the model.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError(f"--adapter needs PEFT, which is not installed; {_INSTALL}") from error
    from theworld.checkpoints.error_text import summary

    config = LoraConfig(
        r=adapter.r,
        target_modules=_names(adapter.target_modules),
        exclude_modules=_names(adapter.exclude_modules),
        modules_to_save=list(adapter.modules_to_save) or None,
        lora_dropout=adapter.lora_dropout,
        bias=adapter.bias,  # pyrefly: ignore[bad-argument-type]
        layers_to_transform=None if adapter.layers_to_transform is None else list(adapter.layers_to_transform),
        layers_pattern=list(adapter.layers_pattern) or None,
        rank_pattern=dict(adapter.rank_pattern),
    )
    if custom_layers:
        config._register_custom_module(custom_layers)
    try:
        with _as_without_data(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that go, and of what is frozen, which here is meant
            get_peft_model(model, config)
    except (ValueError, TypeError, RuntimeError, re.error) as error:
        raise InputError(f"--adapter {adapter.name} does not fit {type(model).__name__}: {summary(error)}") from error


@contextmanager
def _as_without_data(model: Any) -> Iterator[None]:
    """Where a model has no data, have PEFT neither move, cast nor copy any.

    PEFT casts an adapter to its layer's dtype, and back to float32, in which it was made. A copy of a tensor without
    data would be of a copied `FakeTensorMode`, which ends the process later.
    """
    import peft.utils.other
    from torch import nn
    from torch._subclasses.fake_tensor import FakeTensor

    def copy_of(module: nn.Module) -> nn.Module:
        made = {
            id(parameter): nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
            for parameter in module.parameters()
        }
        return copy.deepcopy(module, memo=made | {id(buffer): buffer.clone() for buffer in module.buffers()})

    if not any(isinstance(parameter, FakeTensor) for parameter in model.parameters()):
        yield
        return
    with (
        mock.patch.object(nn.Module, "to", lambda module, *_, **__: module),
        mock.patch.object(peft.utils.other, "copy", SimpleNamespace(deepcopy=copy_of)),
    ):
        yield


def _names(given: tuple[str, ...] | str | None) -> list[str] | str | None:
    return list(given) if isinstance(given, tuple) else given


@contextmanager
def modules_restored(model: Any) -> Iterator[None]:
    """Put a model's own modules back into their places afterwards, whatever was put there."""
    own = [(module, dict(module._modules)) for module in model.modules()]
    try:
        yield
    finally:
        for module, children in own:
            module._modules.clear()
            module._modules.update(children)
