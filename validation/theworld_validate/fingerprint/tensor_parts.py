"""What holds a tensor's bits: the plain tensors inside a subclass, and the file or map that an offloaded one lies in.

In: a tensor that is no plain strided one, or a model with accelerate's hooks. Out: plain tensors. A subclass made of
others (quantised, distributed) has no memory of its own: reading at its `data_ptr()` reads at address 0.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


class NoBits(ValueError):  # noqa: N818 - what is the case, as StopIteration is
    """A tensor whose bits cannot be read, and why."""


@cache
def _strided() -> tuple[type, type, Any]:
    import torch

    return torch.Tensor, torch.nn.Parameter, torch.strided


def is_plain(tensor: "torch.Tensor") -> bool:
    """Whether a tensor's bits are those at its `data_ptr()`, strided. Asked of every output that is traced."""
    plain, parameter, _ = _strided()
    kind = type(tensor)
    return (kind is plain or kind is parameter) and _is_strided(tensor)


def _is_strided(tensor: "torch.Tensor") -> bool:
    has_bits_as_they_are = not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    return has_bits_as_they_are and tensor.layout is _strided()[2]


def parts_of(tensor: "torch.Tensor") -> list[tuple[str, "torch.Tensor"]]:
    """Name the plain tensors that hold the bits of one that is not plain; a distributed one is gathered.

    To gather is a collective: every rank has to observe the same model, in the same order.

    Raises:
        NoBits: if it has none that can be read.
    """
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if is_distributed(tensor):
        return _plain_parts(_gathered(tensor))
    if is_traceable_wrapper_subclass(tensor):
        inner: list[tuple[str, Any]] = [(name, getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0]]
        return [(f"{name}.{path}".rstrip("."), part) for name, value in inner for path, part in _plain_parts(value)]
    if not _is_strided(tensor):
        return _parts_of_layout(tensor)
    return [("", _without_subclass(tensor))]


def is_distributed(tensor: "torch.Tensor") -> bool:
    """Whether each rank holds a share of it: FSDP2's parameters, and tensor-parallel ones."""
    return hasattr(tensor, "placements") and hasattr(tensor, "full_tensor")


def _gathered(tensor: Any) -> "torch.Tensor":
    import torch

    with torch.no_grad():
        return tensor.detach().full_tensor()


def _plain_parts(value: "torch.Tensor") -> list[tuple[str, "torch.Tensor"]]:
    return [("", value)] if is_plain(value) else parts_of(value)


def _parts_of_layout(tensor: "torch.Tensor") -> list[tuple[str, "torch.Tensor"]]:
    if tensor.is_quantized:
        return [("int_repr", tensor.int_repr()), ("dequantized", tensor.dequantize())]
    if tensor.is_conj() or tensor.is_neg():
        return _plain_parts(tensor.resolve_conj().resolve_neg())
    return _plain_parts(tensor.to_dense())


def _without_subclass(tensor: "torch.Tensor") -> "torch.Tensor":
    """A subclass that has memory of its own (as a bitsandbytes weight has) as a plain tensor; else dequantised."""
    for make in (_as_plain, lambda tensor: tensor.dequantize()):
        try:
            plain = make(tensor)
        except Exception:  # whatever a subclass answers to a question that it does not know
            continue
        if is_plain(plain) and (plain.is_meta or not plain.nbytes or _address(plain)):
            return plain
    raise NoBits(f"a {type(tensor).__name__} has no bits that can be read")


def _as_plain(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    with torch._C.DisableTorchFunctionSubclass():
        return tensor.detach().as_subclass(torch.Tensor)


def _address(tensor: "torch.Tensor") -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a fake tensor
        return 0


def name_of_subclass(tensor: "torch.Tensor") -> str | None:
    """The name of a tensor's subclass, or of a layout other than strided; None for a plain tensor or parameter."""
    import torch

    kind = type(tensor)
    if kind in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
        return None if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.")
    placements = getattr(tensor, "placements", None)  # of a DTensor
    return kind.__name__ if placements is None else f"{kind.__name__}{list(map(str, placements))}"


def find_offloaded(model: "nn.Module") -> Mapping[str, tuple[str, Any, str]]:
    """Find what accelerate has taken off a model's modules.

    Returns:
        name of a parameter or buffer -> (where it lies: "disk", "cpu", ...; the map that holds it; its key there).
    """
    found: dict[str, tuple[str, Any, str]] = {}
    for path, module in model.named_modules():
        for hook in _hooks_of(module):
            weights = getattr(hook, "weights_map", None)
            if weights is None or not getattr(hook, "offload", False):
                continue
            recurse = bool(getattr(hook, "place_submodules", False))
            own = [*module.named_parameters(recurse=recurse), *module.named_buffers(recurse=recurse)]
            for name, tensor in own:
                if tensor.is_meta:
                    found.setdefault(f"{path}.{name}".lstrip("."), (_place_of(weights, name), weights, name))
    return found


def _hooks_of(module: "nn.Module") -> Iterator[Any]:
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", None) or (hook,)  # a SequentialHook holds several


def _place_of(weights: Any, name: str) -> str:
    """Whether a map of accelerate's reads a weight from a file, and else that it is in memory."""
    prefix, dataset = getattr(weights, "prefix", ""), getattr(weights, "dataset", weights)
    in_memory = getattr(dataset, "state_dict", None)
    return "disk" if in_memory is not None and f"{prefix}{name}" not in in_memory else "memory"


def read_offloaded(entry: tuple[str, Any, str]) -> "torch.Tensor":
    """Read one that `find_offloaded` found.

    Raises:
        NoBits: if it cannot be read.
    """
    place, weights, name = entry
    try:
        tensor = weights[name]
    except Exception as error:  # a folder that is gone, a key that is not there
        raise NoBits(f"offloaded to {place}, and not readable there ({type(error).__name__})") from error
    if tensor.is_meta:
        raise NoBits(f"offloaded to {place}, where it has no bits either")
    return tensor
