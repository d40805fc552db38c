"""What each of two processes does in `test_ranks`: steps of training with real tensors, on gloo.

In: its rank, a port, and a folder with cells.json. Out: RANK.json: of each cell the peak bytes of a forward and
backward pass over what was there before, as the profiler sees them; DDP's buckets; what FSDP2 keeps on the host.
"""

import gc
import json
import os
from pathlib import Path
from typing import Any

NUM_PASSES = (
    3  # gloo's own threads let go of what was sent a little later, on a busy machine too late: the least counts
)


def main(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import warnings

    import torch
    import torch.distributed as dist

    from benchmarks.rank_memory import prepare_step
    from tests.conftest import load_world
    from theworld.synthetic import cached_checkpoint
    from theworld_validate.memory.cells import Cell
    from theworld_validate.memory.cuda_routes import attention_as_on_cuda
    from theworld_validate.memory.sharding import mesh_of

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = mesh_of("cpu", 2)
    found = []
    for values in json.loads(Path(folder, "cells.json").read_text()):
        cell = Cell(**values)
        model = load_world(cached_checkpoint("tiny"), dtype=torch.bfloat16, world={})
        callee, pass_once, learn = prepare_step(model, cell, mesh)
        with attention_as_on_cuda():
            if cell.strategy == "ddp":  # it makes its buckets anew in the second step
                pass_once()
                pass_once()
                learn()
            row: dict[str, Any] = {}
            if cell.offload_optimizer:  # on a CPU, nothing comes and goes
                pass_once()
                row["host"] = _bytes_of(model, learn)
            else:
                row["peak"] = _least_peak(pass_once, learn)
        if cell.strategy == "ddp":
            sizes = callee._get_ddp_logging_data()["rebuilt_bucket_sizes"]
            row["buckets"] = [int(size) for size in sizes.split(",")]
        found.append(row)
        del callee, pass_once, learn, model
        gc.collect()
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def _least_peak(pass_once: Any, learn: Any) -> int:
    from tests.theworld_validate.memory.test_predict import profiled_peak

    peaks = []
    for number in range(NUM_PASSES):
        if number:
            learn()
        gc.collect()  # what an earlier profile saw allocated would be seen freed in the next one
        peaks.append(profiled_peak(pass_once))
    return min(peaks)


def _bytes_of(model: Any, learn: Any) -> int:
    """Of the shards, their gradients and AdamW's states."""
    import torch

    shards = [parameter.to_local().untyped_storage().nbytes() for parameter in model.parameters()]
    gradients = [parameter.grad.to_local().nbytes for parameter in model.parameters() if parameter.grad is not None]
    states: list[int] = []
    step = torch.optim.AdamW.step

    def counted(self: Any) -> None:
        step(self)
        each = [value for state in self.state.values() for name, value in state.items() if name != "step"]
        states.extend(value.to_local().nbytes for value in each)

    torch.optim.AdamW.step = counted  # type: ignore[method-assign]
    learn()
    torch.optim.AdamW.step = step  # type: ignore[method-assign]
    return sum(shards) + sum(gradients) + sum(states)
