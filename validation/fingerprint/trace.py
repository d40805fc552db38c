"""The trace: a digest of every module's output, in call order.

In: a model, for the length of a `with` block. Out: one observation a module call. Hooks are removed at the
end, tensors are not kept, and a tensor that several modules pass on is digested once.
"""

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from validation.fingerprint.digest import DigestQueue, describe_shape
from validation.fingerprint.observations import Layer, Observation

if TYPE_CHECKING:
    import torch
    from torch import nn


def iterate_tensors(value: Any, path: str = "") -> Iterator[tuple[str, "torch.Tensor"]]:
    """Find every tensor in a module's output: (path, tensor), through tuples, lists and mappings."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from iterate_tensors(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from iterate_tensors(item, f"{path}[{i}]")


class Trace:
    """Records module outputs while it is entered; `layer` holds them afterwards."""

    def __init__(self, model: "nn.Module", *, prefix: str) -> None:
        self.layer: Layer = {}
        self.num_bytes = 0
        self._model, self._prefix = model, prefix
        self._handles: list[Any] = []
        self._queue = DigestQueue()
        self._digested: dict[int, tuple[weakref.ref[torch.Tensor], int, Observation]] = {}

    def __enter__(self) -> "Trace":
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_hook(self._make_hook(name or "(model)")))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._digested.clear()
        self._queue.finish()

    def _make_hook(self, name: str) -> Any:
        def hook(_module: "nn.Module", _inputs: Any, output: Any) -> None:
            call = len(self.layer)
            for path, tensor in iterate_tensors(output):
                self.layer[f"{self._prefix}{call:05d} {name}{path}"] = self._observe(tensor)

        return hook

    def _observe(self, tensor: "torch.Tensor") -> Observation:
        # A weak reference tells the same tensor from a new one at the same id; the version, from one changed since.
        known = self._digested.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == tensor._version:
            return known[2]
        seen: Observation = {"tensor": describe_shape(tensor)}
        self._queue.add(tensor, seen)
        self.num_bytes += tensor.numel() * tensor.element_size()
        self._digested[id(tensor)] = (weakref.ref(tensor), tensor._version, seen)
        return seen
