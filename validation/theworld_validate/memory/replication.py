"""One rank's copy of a model on several GPUs, in one process without any: DDP's own code, and no communication.

In: a model. Out: the model replicated as Accelerate does it, for a real process group; or as rank 0 has it, on tensors
without data, with the buckets that DDP has from its second step on. A gradient lies twice: in its bucket, and as the
parameter's own, since Accelerate leaves `gradient_as_bucket_view` off.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from theworld_validate.memory.cells import FREEZES, Cell
from theworld_validate.memory.tracer import StorageTracer

BUCKET_BYTES = 25 << 20  # bucket_cap_mb; Accelerate leaves it as it is


def replicate(model: Any, cell: Cell, *, device: Any) -> Any:
    """Replicate a model over the ranks of the process group, as `theworld-train` has Accelerate do it."""
    from torch.nn.parallel import DistributedDataParallel

    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=_finds_unused(cell))


def replicate_traced(model: Any, cell: Cell, tracer: StorageTracer) -> Any:
    """Replicate a model without data; its buckets are there before the run."""
    from torch.nn.parallel import DistributedDataParallel

    with tracer, _buckets_as_rebuilt():
        # Nothing is compared with other ranks, or sent to them: there are no values.
        replica = DistributedDataParallel(model, init_sync=False)
    replica.register_comm_hook(None, lambda _, bucket: _summed(bucket))
    tracer.settle("gradients", "DDP's bucket")
    # Set here, the reducer does not look itself, which takes values; outputs are cloned as if it did.
    replica.find_unused_parameters = _finds_unused(cell)
    return replica


@contextmanager
def layouts_may_differ() -> Iterator[None]:
    """Have DDP not warn of gradients that lie otherwise than in its buckets: the copies are as large."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        yield


def _finds_unused(cell: Cell) -> bool:
    from theworld.training.sharding import may_be_unused

    return may_be_unused(FREEZES[cell.preset].trainable)


def _summed(bucket: Any) -> Any:
    """What the sum over ranks gives: the bucket."""
    import torch

    future: Any = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


@contextmanager
def _buckets_as_rebuilt() -> Iterator[None]:
    """Have DDP make at once the buckets that it makes after the first step, in the order in which gradients come.

    Its first step has one bucket of everything. That order is taken to be the reverse of the parameters'.
    """
    import torch.distributed as dist

    assign = dist._compute_bucket_assignment_by_size

    def assign_reversed(parameters: list[Any], _limits: Any, *_: Any) -> Any:
        limits = [dist._DEFAULT_FIRST_BUCKET_BYTES, BUCKET_BYTES]
        order = list(range(len(parameters)))[::-1]
        buckets, sizes = assign([parameters[i] for i in order], limits, [False] * len(order), order)
        return buckets[::-1], sizes[::-1]  # DDP reverses them

    with mock.patch.object(dist, "_compute_bucket_assignment_by_size", assign_reversed):
        yield
