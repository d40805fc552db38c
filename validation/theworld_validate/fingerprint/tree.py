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
    above: set[int] = set()  # a module that hangs below itself is entered once on each way

    def walk(path: str, module: "nn.Module") -> "Iterator[tuple[str, nn.Module]]":
        if id(module) in (above if with_duplicates else seen):
            return
        seen.add(id(module))
        above.add(id(module))
        yield path, module
        for name, child in module._modules.items():
            if child is not None:
                yield from walk(f"{path}.{name}".lstrip("."), child)
        above.remove(id(module))

    yield from walk("", model)


def iterate_cycles(model: "nn.Module") -> Iterator[tuple[str, str, str]]:
    """Each place where a module hangs below itself: the holder's path, the name there, and the module's own path."""
    seen: set[int] = set()
    path_of: dict[int, str] = {}  # of the modules above

    def walk(path: str, module: "nn.Module") -> Iterator[tuple[str, str, str]]:
        seen.add(id(module))
        path_of[id(module)] = path
        for name, child in module._modules.items():
            if id(child) in path_of:
                yield path, name, path_of[id(child)]
            elif child is not None and id(child) not in seen:
                yield from walk(f"{path}.{name}".lstrip("."), child)
        del path_of[id(module)]

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
