"""A model's modules and tensors as torch itself holds them, whatever the model's own methods say of it.

In: a module. Out: names and what they name, in the order of `named_modules` and `named_parameters`. A class may
override those (to hide frozen or sharded parts), and would then leave a part of itself out of the comparison.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def iterate_modules(model: "nn.Module", *, with_duplicates: bool = False) -> "Iterator[tuple[str, nn.Module]]":
    """Every module by its path; one that hangs in two places under its first, or under each of them."""
    seen: set[int] = set()

    def walk(path: str, module: "nn.Module") -> "Iterator[tuple[str, nn.Module]]":
        if not with_duplicates and id(module) in seen:
            return
        seen.add(id(module))
        yield path, module
        for name, child in module._modules.items():
            if child is not None:
                yield from walk(f"{path}.{name}".lstrip("."), child)

    yield from walk("", model)


def iterate_parameters(model: "nn.Module") -> "Iterator[tuple[str, nn.Parameter]]":
    """Every parameter by its path; a tied one under each of its names."""
    for path, module in iterate_modules(model, with_duplicates=True):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield f"{path}.{name}".lstrip("."), parameter


def iterate_buffers(model: "nn.Module") -> "Iterator[tuple[str, torch.Tensor, bool]]":
    """Every buffer by its path, and whether it is saved."""
    for path, module in iterate_modules(model):
        for name, buffer in module._buffers.items():
            if buffer is not None:
                yield f"{path}.{name}".lstrip("."), buffer, name not in module._non_persistent_buffers_set
