"""The trace: a digest of every module's output, in call order.

In: a model, for the length of a `with` block. Out: one observation a module call. Hooks are removed at the
end, tensors are not kept, and a tensor that several modules pass on is digested once.
"""

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from validation.fingerprint.digest import MAX_HELD_BYTES, DigestQueue, describe_shape, version_of
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
    """Records module outputs while it is entered; `layer` holds them afterwards.

    Args:
        prefix: what every location starts with.
        max_held_bytes: of outputs kept until many are digested together; see `DigestQueue`.
    """

    def __init__(self, model: "nn.Module", *, prefix: str, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self.layer: Layer = {}
        self.num_bytes = 0
        self._model, self._prefix = model, prefix
        self._handles: list[Any] = []
        self._queue = DigestQueue(max_held_bytes)
        self._digested: dict[int, tuple[weakref.ref[torch.Tensor], int, Observation]] = {}

    @property
    def changed_in_place(self) -> bool:
        """Whether an output was written to before it was digested: trace again with `max_held_bytes=0`."""
        return self._queue.changed_in_place

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
        import torch

        # What runs a thousand times a forward: a plain tensor, the usual output, takes the short way.
        layer, prefix, observe = self.layer, self._prefix, self._observe
        tensor_types = (torch.Tensor, torch.nn.Parameter)

        def hook(_module: "nn.Module", _inputs: Any, output: Any) -> None:
            call = len(layer)
            if type(output) in tensor_types:
                layer[f"{prefix}{call:05d} {name}"] = observe(output)
                return
            for path, tensor in iterate_tensors(output):
                layer[f"{prefix}{call:05d} {name}{path}"] = observe(tensor)

        return hook

    def _observe(self, tensor: "torch.Tensor") -> Observation:
        # A weak reference tells the same tensor from a new one at the same id; the version, from one changed since.
        known = self._digested.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version_of(tensor):
            return known[2]
        seen: Observation = {"tensor": describe_shape(tensor)}
        self._queue.add(tensor, seen)
        self.num_bytes += tensor.numel() * tensor.element_size()
        self._digested[id(tensor)] = (weakref.ref(tensor), version_of(tensor), seen)
        return seen
