"""What a training step keeps in the host's memory: activations, shards and optimizer states, and what is left behind.

In: a cell. Out: the contexts that a real step runs in, and the same for tensors without data, where host and device
are one: copies are made where the real run makes them, and a tracer is told which of them are the host's.

Activations go by torch's `save_on_cpu`: all that autograd saves during the forward pass, weights among it; with
gradient checkpointing each layer's input. AdamW's states go by torchao's `CPUOffloadOptimizer` on one GPU, and under
FSDP2 with shards and gradients by its `CPUOffloadPolicy`, which Accelerate calls `fsdp_offload_params`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from theworld_validate.memory.cells import Cell
from theworld_validate.memory.optimizers import Learning, states_of
from theworld_validate.memory.tracer import StorageTracer, Trace

KEPT_ELEMENTS = 4096  # torchao: the states of smaller parameters stay on the GPU


@contextlib.contextmanager
def together(*contexts: AbstractContextManager[Any]) -> Iterator[None]:
    """Several contexts as one."""
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


def activations_offloaded(cell: Cell) -> AbstractContextManager[Any]:
    """The context of a real forward pass."""
    import torch

    if not cell.offload_activations:
        return contextlib.nullcontext()
    return torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())


def activations_traced(cell: Cell, tracer: StorageTracer) -> AbstractContextManager[Any]:
    """The context of a forward pass on tensors without data: `save_on_cpu`'s copies, to the host and back."""
    import torch

    if not cell.offload_activations:
        return contextlib.nullcontext()

    def pack(tensor: Any) -> Any:
        packed = torch.empty(tensor.size(), dtype=tensor.dtype)
        tracer.put_on_host(packed)
        return packed

    return torch.autograd.graph.saved_tensors_hooks(pack, torch.empty_like)


@contextlib.contextmanager
def shards_traced(cell: Cell, model: Any, tracer: StorageTracer) -> Iterator[None]:
    """Have a sharded model's shards lie on the host: they come to the device before each gather; gradients go back."""
    if not (cell.is_sharded and cell.offload_optimizer):
        yield
        return
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

    for parameter in model.parameters():
        tracer.put_on_host(parameter.to_local())
    gather_inputs: Any = FSDPParam.all_gather_inputs
    to_dtensor = FSDPParam.to_sharded_dtensor

    def brought(self: Any) -> Any:
        shard = self._sharded_param_data
        self._sharded_param_data = shard.clone()
        try:
            return gather_inputs.fget(self)
        finally:
            self._sharded_param_data = shard

    def taken(self: Any, gradient: Any) -> Any:
        on_host = gradient.clone()
        tracer.put_on_host(on_host)
        return to_dtensor(self, on_host)

    with (
        mock.patch.object(FSDPParam, "all_gather_inputs", property(brought)),
        mock.patch.object(FSDPParam, "to_sharded_dtensor", taken),
    ):
        yield


def split_learning(cell: Cell, learning: Sequence[Learning]) -> tuple[tuple[Learning, ...], tuple[Learning, ...]]:
    """What the optimizer steps on the device, and on the host."""
    if not cell.offload_optimizer:
        return tuple(learning), ()
    if cell.is_sharded:
        return (), tuple(learning)
    return (
        tuple(one for one in learning if one.elements < KEPT_ELEMENTS),
        tuple(one for one in learning if one.elements >= KEPT_ELEMENTS),
    )


def host_bytes(cell: Cell, trace: Trace, on_host: Sequence[Learning]) -> int | None:
    """The most that lies in the host's memory during a step, as it was asked for; None for a cell without offload.

    Pinned blocks are larger: torch rounds each of them up to a power of two.

    Args:
        on_host: what the optimizer steps there.
    """
    if not (cell.offload_activations or cell.offload_optimizer):
        return None
    held = peak = sum(size for number, (_, size, _) in trace.persistent.items() if number in trace.on_host)
    for event in trace.events:
        if event.storage in trace.on_host:
            held += event.num_bytes
            peak = max(peak, held)
    states = sum(state.num_bytes for state in states_of(on_host, cell.optimizer))
    # torchao keeps a copy of each parameter and of its gradient; FSDP2's shards and gradients were seen already.
    copies = 0 if cell.is_sharded else 2 * sum(one.elements * one.item_bytes for one in on_host)
    return peak + states + copies
