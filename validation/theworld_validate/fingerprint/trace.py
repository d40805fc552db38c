"""The trace: a digest of every module's output, in call order.

In: a model. Out: one observation a module call, for each stretch that is recorded. Hooks are put on once and
removed at the end; tensors are not kept, and a tensor that several modules pass on is digested once. What is compiled
runs as it was written while it is recorded.
"""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Observation, Section
from theworld_validate.fingerprint.compiled import compiler_off, is_compiled, without_wrapper
from theworld_validate.fingerprint.digest import MAX_HELD_BYTES, DigestQueue, describe_shape, version_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.tensor_parts import NoBits

if TYPE_CHECKING:
    import torch
    from torch import nn

    from theworld_validate.fingerprint.sketch import SketchBook


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


class Recording:
    """The module outputs of one stretch; `section` holds them when the stretch has ended.

    Args:
        prefix: what every location starts with.
        max_held_bytes: of CUDA outputs kept until many are digested in one launch; see `DigestQueue`.
        sketches: where sketches of outputs go; None for none.

    Attributes:
        section: "<prefix><module><path>" -> tensor description and digest, in call order. A module that is called
            again has "#2", "#3" behind its name; one that is told what to do by a word, such as the rotary
            embedding, has that in parentheses: the order of those calls is Python's hash seed's.
        num_bytes: bytes that were digested.
    """

    def __init__(
        self, prefix: str = "", max_held_bytes: int = MAX_HELD_BYTES, *, sketches: "SketchBook | None" = None
    ) -> None:
        import torch

        self._tensor_type = torch.Tensor
        self.section: Section = {}
        self.num_bytes = 0
        self._prefix = prefix
        self._queue = DigestQueue(max_held_bytes, sketches=sketches)
        self._num_calls: dict[str, int] = {}
        self._digested: dict[int, tuple[weakref.ref[torch.Tensor], int, Observation]] = {}

    @property
    def layer(self) -> Section:
        """What `section` was called."""
        return self.section

    @property
    def changed_in_place(self) -> bool:
        """Whether an output was written to before it was digested: record again with `max_held_bytes=0`."""
        return self._queue.changed_in_place

    def finish(self) -> None:
        """Fill in the digests that are still queued."""
        self._digested.clear()
        self._queue.finish()

    def release(self) -> None:
        """Let go of outputs that wait for their digest: much memory is about to be asked for."""
        self._queue.release()

    def observe_mask(self, name: str, mask: Any) -> None:
        """Take the attention mask that a layer is called with; None, or a mask that is no tensor, is one too."""
        location = self._locate(f"{name}(attention_mask)")
        if isinstance(mask, self._tensor_type):
            self._take(location, mask)
        else:
            self.section[location] = {"tensor": "None" if mask is None else type(mask).__name__}

    def observe(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """Take the tensors of one module's output; `inputs` are its positional arguments."""
        words = [value for value in inputs if isinstance(value, str)]
        location = self._locate(f"{name}({', '.join(words)})" if words else name)
        if isinstance(output, self._tensor_type):  # most are: a trace's cost is what is done for each of them
            self._take(location, output)
            return
        for path, tensor in iterate_tensors(output):
            self._take(location + path, tensor)

    def _locate(self, name: str) -> str:
        self._num_calls[name] = number = self._num_calls.get(name, 0) + 1
        return f"{self._prefix}{name}" if number == 1 else f"{self._prefix}{name}#{number}"

    def _take(self, location: str, tensor: "torch.Tensor") -> None:
        # A weak reference tells the same tensor from a new one at the same id; the version, from one changed since.
        key, version = id(tensor), version_of(tensor)
        known = self._digested.get(key)
        if known is not None and known[0]() is tensor and known[1] == version:
            self.section[location] = known[2]
            return
        description = describe_shape(tensor)
        seen: Observation = {"tensor": description}
        self.section[location] = seen
        try:
            self.num_bytes += self._queue.add(tensor, seen, description=description)
        except NoBits as error:
            seen["unreadable"] = clean_text(str(error))
        self._digested[key] = (weakref.ref(tensor), version, seen)


def _output_embeddings(model: "nn.Module") -> "nn.Module | None":
    from torch import nn

    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    return head if isinstance(head, nn.Module) else None


class Tracer:
    """Hooks on every module of a model while it is entered; idle but for what `record` encloses.

    Args:
        model: of one that torch.compile returned, the modules inside are recorded, under their own names.
        without_compiler: switch torch.compile off while recording, also where no module of the model is compiled.

    Attributes:
        is_compiler_off: whether it is switched off while recording: what is recorded is then not what runs otherwise.
    """

    def __init__(self, model: "nn.Module", *, without_compiler: bool = False) -> None:
        self.is_compiler_off = without_compiler or is_compiled(model)
        self._model: nn.Module = without_wrapper(model)
        self._handles: list[Any] = []
        self._recording: Recording | None = None

    def __enter__(self) -> "Tracer":
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_hook(self._make_hook(name or "(model)")))
            if name.endswith("self_attn"):  # attention is a function: its mask is seen where its module is called
                pre_hook = module.register_forward_pre_hook(self._make_mask_hook(name), with_kwargs=True)
                self._handles.append(pre_hook)
        if (head := _output_embeddings(self._model)) is not None:  # the peak of a forward is at the logits
            self._handles.append(head.register_forward_pre_hook(self._release))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def record(self, recording: Recording) -> Iterator[Recording]:
        """Record every module call until the block ends."""
        self._recording = recording
        try:
            with compiler_off(enabled=self.is_compiler_off):
                yield recording
        finally:
            self._recording = None
        recording.finish()

    def _release(self, *_call: Any) -> None:
        if self._recording is not None:
            self._recording.release()

    def _make_mask_hook(self, name: str) -> Any:
        def hook(_module: "nn.Module", _inputs: Any, kwargs: dict[str, Any]) -> None:
            if self._recording is not None:
                self._recording.observe_mask(name, kwargs.get("attention_mask"))

        return hook

    def _make_hook(self, name: str) -> Any:
        def hook(_module: "nn.Module", inputs: Any, output: Any) -> None:
            if self._recording is not None:
                self._recording.observe(name, inputs, output)

        return hook
