"""Where a model takes its inputs, in which dtype, and how wide its answers are: of models that do not say so too.

In: a model. Out: a device, a dtype, a size. A wrapper or a plain module may have none of `device`, `dtype` and
`config`, and an offloaded model's parameters lie on the meta device.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def device_of(model: Any) -> "torch.device":
    """The device that inputs go to: an offloaded model's first hook knows it, and else its parameters."""
    import torch

    for device in _hook_devices(model):
        return torch.device(device)
    device = getattr(model, "device", None)
    if isinstance(device, torch.device) and device.type != "meta":
        return device
    return next((tensor.device for tensor in _tensors(model) if not tensor.is_meta), torch.device("cpu"))


def dtype_of(model: Any) -> "torch.dtype":
    """The dtype that pixels are given in: what the model says, and else its first floating-point parameter's."""
    import torch

    dtype = getattr(model, "dtype", None)
    if isinstance(dtype, torch.dtype):
        return dtype
    return next((tensor.dtype for tensor in _tensors(model) if tensor.is_floating_point()), torch.get_default_dtype())


def vocab_size_of(model: Any) -> int:
    """How many logits a token has; 0 where the config does not say so."""
    config = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text, "vocab_size", 0)
    return size if isinstance(size, int) else 0


def _tensors(model: Any) -> "Iterator[torch.Tensor]":
    yield from model.parameters()
    yield from model.buffers()


def _hook_devices(model: Any) -> Iterator[Any]:
    """What accelerate's hooks move a call's arguments to, the outermost module's first."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):  # a SequentialHook holds several
            device = getattr(one, "execution_device", None)
            if device is not None:
                yield device
