"""Births and deaths of storages while real model code runs on tensors without data.

In: code, run inside `trace`. Out: `Event`s in order: every storage's bytes when it is made, and when its last
reference goes. What CUDA would do otherwise than the CPU is put right here: gradients that autograd adds in place.
"""

# Autograd adds in place only where no dispatch mode is active (torch/csrc/autograd/input_buffer.cpp,
# `can_accumulate_inplace`): under this mode it never does, so the sum is written into its first operand here.

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.ops.prim.device.default
ADD = torch.ops.aten.add.Tensor
NONZERO = torch.ops.aten.nonzero.default
INDEX = torch.ops.aten.index.Tensor
ITEM = torch.ops.aten._local_scalar_dense.default


@dataclass(slots=True)
class Event:
    """One storage is made (`num_bytes` above 0) or goes away (below 0).

    Args:
        storage: its number.
        num_bytes: as asked for; what the allocator makes of it comes later.
        phase: of the step.
        operator: that made it.
        module: whose forward ran, the innermost; empty outside of all.
        stream: that the request was made on; 0 is the one that computes.
    """

    storage: int
    num_bytes: int
    phase: str
    operator: str = ""
    module: str = ""
    stream: int = 0


@dataclass
class Trace:
    """What a traced run did.

    Args:
        events: in order.
        persistent: storages that were there before: number -> (kind, bytes, name).
        on_host: numbers of the storages that lie in the host's memory.
    """

    events: list[Event] = field(default_factory=list)
    persistent: dict[int, tuple[str, int, str]] = field(default_factory=dict)
    on_host: set[int] = field(default_factory=set)


class StorageTracer(TorchDispatchMode):
    """Records storages of tensors without data.

    Args:
        scratch: bytes that a kernel takes within its call, from the operator, its arguments and its result.
        num_nonzero: how many elements `nonzero` finds: data would say, and there is none.
        item: what a tensor of one element holds.
    """

    def __init__(
        self,
        *,
        scratch: Callable[[Any, tuple[Any, ...], Any], int] = lambda func, args, out: 0,
        num_nonzero: int | None = None,
        item: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        super().__init__()
        self.num_nonzero = num_nonzero
        self.item = item
        self.trace = Trace()
        self.phase = "inputs"
        self.module = ""
        self.scratch = scratch
        self.stream: Callable[[], int] = lambda: 0
        self._numbers: dict[int, int] = {}  # address of a living storage -> its number
        self._next = 0

    def adopt(self, tensor: torch.Tensor, kind: str, name: str) -> None:
        """Take a tensor that is there before the run, such as a parameter."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._numbers:
            number = self._register(storage)
            self.trace.persistent[number] = (kind, storage.nbytes(), name)

    def put_on_host(self, tensor: torch.Tensor) -> None:
        """Take a tensor that it has seen as one in the host's memory."""
        self.trace.on_host.add(self.number_of(tensor))

    def settle(self, kind: str, name: str) -> None:
        """Take what was made until now, and is still there, as there before the run."""
        living: dict[int, int] = {}
        for event in self.trace.events:
            if event.num_bytes > 0:
                living[event.storage] = event.num_bytes
            else:
                living.pop(event.storage, None)
        self.trace.persistent |= {number: (kind, num_bytes, name) for number, num_bytes in living.items()}
        self.trace.events.clear()

    def number_of(self, tensor: torch.Tensor) -> int:
        """A living tensor's storage."""
        return self._numbers[tensor.untyped_storage()._cdata]

    def resize(self, tensor: torch.Tensor, before: int, operator: str) -> int:
        """Record that a storage got its memory, or gave it away, without an operator; return its number."""
        storage = tensor.untyped_storage()
        number = self._numbers.get(storage._cdata)
        if number is None:
            number = self._register(storage)
        if (now := storage.nbytes()) != before:
            self.trace.events.append(Event(number, now or -before, self.phase, operator, self.module, self.stream()))
        return number

    def move_in(self, tensor: torch.Tensor, operator: str) -> int:
        """Record that a tensor from elsewhere comes to the device; return its storage's number."""
        storage = tensor.untyped_storage()
        number = self._numbers.get(storage._cdata)
        if number is None:
            number = self._register(storage)
        self.trace.events.append(Event(number, storage.nbytes(), self.phase, operator, self.module))
        return number

    def move_out(self, tensor: torch.Tensor) -> None:
        """Record that a tensor leaves the device, and lives on elsewhere."""
        number = self._numbers[tensor.untyped_storage()._cdata]
        self.trace.events.append(Event(number, -tensor.untyped_storage().nbytes(), self.phase))

    def make(self, num_bytes: int, operator: str) -> None:
        """Record memory that a kernel takes and gives back within one call."""
        if num_bytes > 0:
            number = self._next
            self._next += 1
            self.trace.events.append(Event(number, num_bytes, self.phase, operator, self.module, self.stream()))
            self.trace.events.append(Event(number, -num_bytes, self.phase, operator, self.module))

    def _register(self, storage: Any) -> int:
        number = self._next
        self._next += 1
        address = storage._cdata
        self._numbers[address] = number
        weakref.finalize(storage, self._died, address, number, storage.nbytes())
        return number

    def _died(self, address: int, number: int, num_bytes: int) -> None:
        if self._numbers.get(address) == number:
            del self._numbers[address]
        self.trace.events.append(Event(number, -num_bytes, self.phase))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is DEVICE:  # of each tensor at each step of autograd: more often asked than all else
            return args[0].fake_device
        if func is ADD and self._adds_in_place(args, kwargs):
            return torch.ops.aten.add_.Tensor(*args)
        if func is ITEM and self.item is not None:
            return self.item(args[0])
        if func is NONZERO and self.num_nonzero is not None:
            out = args[0].new_empty((self.num_nonzero, args[0].dim()), dtype=torch.int64)
        else:
            if func is INDEX and self.num_nonzero is not None:
                args = (args[0], self._as_numbers(args[1]))
            out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, func)
        if extra := self.scratch(func, args, out):
            self.make(extra, f"scratch of {func._schema.name}")
        return out

    def _as_numbers(self, indices: Any) -> list[Any]:
        """Masks among indices as the positions that they stand for, which the kernel finds first."""
        numbers: list[Any] = []
        for index in indices:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                numbers.append(index)
            else:
                numbers += [index.new_empty(self.num_nonzero, dtype=torch.int64) for _ in range(index.dim())]
        return numbers

    def _see(self, tensor: torch.Tensor, func: Any) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._numbers:
            return
        number = self._register(storage)
        name = func._schema.name.removeprefix("aten::")
        vars(tensor).update(_is_whole=True, _made_by=name)  # not a view of something older
        self.trace.events.append(Event(number, storage.nbytes(), self.phase, name, self.module, self.stream()))

    def _adds_in_place(self, args: Any, kwargs: Any) -> bool:
        """Whether this sum is one of autograd's, into a gradient that nobody else holds."""
        if self.phase != "backward" or torch.is_grad_enabled() or kwargs or len(args) != 2:
            return False
        first, second = args
        if not isinstance(second, torch.Tensor) or first.shape != second.shape or first.dtype != second.dtype:
            return False
        return getattr(first, "_is_whole", False) and self.held_alone(first)

    def held_alone(self, tensor: torch.Tensor) -> bool:
        """Whether nobody but the call in progress holds a tensor's storage."""
        return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) <= 2


@contextmanager
def modules_named(tracer: StorageTracer, model: Any) -> Iterator[None]:
    """Tell the tracer which module runs: the innermost whose forward has begun and not ended."""
    handles = []
    around: list[str] = []  # what ran when each of those that run now began

    def enter(name: str) -> None:
        around.append(tracer.module)
        tracer.module = name

    def leave() -> None:
        tracer.module = around.pop()

    for name, module in model.named_modules():
        shown = name or type(module).__name__
        # Before a hook that gathers shards; and where a recomputation stops early, by an error, a module ends too.
        enters = module.register_forward_pre_hook(lambda module, args, name=shown: enter(name), prepend=True)
        leaves = module.register_forward_hook(lambda module, args, out: leave(), always_call=True)
        handles += [enters, leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
