"""One rank's share of a model on several GPUs, in one process without any: FSDP2's own code, and no communication.

In: a model and a number of ranks. Out: the model sharded as rank 0 has it, by Accelerate's own function with the
policy that `theworld-train` gives it, and a tracer that sees what FSDP2 does with whole parameters behind autograd's
back. Collectives return at once; only their memory is real.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from theworld_validate.memory.cells import Cell
from theworld_validate.memory.tracer import StorageTracer

_DIMENSION = "dp_shard"  # of the mesh


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
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=num_ranks)
    try:
        yield mesh_of(device_type, num_ranks)
    finally:
        dist.destroy_process_group()


def mesh_of(device_type: str, num_ranks: int) -> Any:
    """The device mesh of all ranks of the process group."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device_type, (num_ranks,), mesh_dim_names=(_DIMENSION,))


def shard(model: Any, mesh: Any, cell: Cell) -> None:
    """Shard a model over a mesh as `accelerate launch` with FSDP2 has it: see docs/distributed.md.

    What trains is in float32 where the cell's precision is mixed; shards lie on the host where its optimizer does.
    """
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model
    from torch.distributed.fsdp import CPUOffloadPolicy

    from theworld.training.sharding import precision_policy

    is_mixed = cell.precision == "mixed"
    with mock.patch.dict(os.environ):  # where the plugin leaves what it was told
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            reshard_after_forward=True,
            cpu_ram_efficient_loading=False,
            activation_checkpointing=False,
            cpu_offload=False,
        )
    if cell.offload_optimizer:
        plugin.cpu_offload = CPUOffloadPolicy(pin_memory=mesh.device_type == "cuda")
    plugin.mixed_precision_policy = precision_policy(torch.bfloat16 if is_mixed else None)
    # Of the Accelerator, which would take the process's own group, what the function looks at.
    accelerator: Any = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        torch_device_mesh=mesh,
        parallelism_config=SimpleNamespace(fsdp_dim_names=[_DIMENSION]),
        mixed_precision="bf16" if is_mixed else "no",
        is_main_process=False,
    )
    fsdp2_prepare_model(accelerator, model)


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
