"""One rank's share of a model on several GPUs, in one process without any: FSDP2's own code, and no communication.

In: a model and a number of ranks. Out: the model sharded as rank 0 has it, and a tracer that sees what FSDP2 does
with whole parameters behind autograd's back. Collectives return at once; only their memory is real.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from theworld_validate.memory.tracer import StorageTracer

# Each is gathered, used and given away as one; everything else belongs to the root and stays for the whole step.
UNITS = ("Gemma3DecoderLayer", "SiglipEncoderLayer")


@contextmanager
def process_group(num_ranks: int, *, device_type: str) -> Iterator[Any]:
    """Be rank 0 of so many ranks that do not exist; must be entered where tensors have data.

    Yields:
        The device mesh of all ranks; None for a single one, which needs no group.

    Raises:
        RuntimeError: if the process belongs to a group already.
    """
    if num_ranks == 1:
        yield None
        return
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=num_ranks)
    try:
        yield init_device_mesh(device_type, (num_ranks,))
    finally:
        dist.destroy_process_group()


def shard(model: Any, mesh: Any) -> None:
    """Shard a model's parameters over a mesh with FSDP2, unit by unit."""
    from torch.distributed.fsdp import fully_shard

    for module in [module for module in model.modules() if type(module).__name__ in UNITS]:
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def shard_of(tensor: Any) -> Any:
    """This rank's part of a tensor; the tensor itself if it is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@contextmanager
def gathers_seen(tracer: StorageTracer) -> Iterator[set[int]]:
    """Have a tracer see storages that FSDP2 fills and empties, and its streams.

    Yields:
        The numbers of the storages that hold whole parameters; it grows during the run.
    """
    import torch
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    gathered: set[int] = set()
    streams: dict[Any, int] = {torch.cpu.current_stream(): 0}

    def seen(function: Any, operator: str) -> Any:
        def replacement(tensor: Any) -> None:
            before = tensor.untyped_storage().nbytes()
            function(tensor)
            gathered.add(tracer.resize(tensor, before, operator))

        return replacement

    def stream() -> int:
        return streams.setdefault(torch.cpu.current_stream(), len(streams))

    with ExitStack() as stack:
        for name, operator in (("alloc_storage", "all-gather"), ("free_storage", "reshard")):
            replacement = seen(getattr(_fsdp_param, name), operator)
            stack.enter_context(mock.patch.object(_fsdp_param, name, replacement))
        stack.enter_context(mock.patch.object(tracer, "stream", stream))
        yield gathered
