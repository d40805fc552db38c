"""Peak memory of one rank of a training step, measured on its GPU; and the same cells predicted without one.

    torchrun --nproc-per-node 2 benchmarks/rank_memory.py CHECKPOINT OUTPUT [--group NAME]
    python benchmarks/rank_memory.py GEOMETRY OUTPUT --predict [--group NAME]

CHECKPOINT is a folder of `theworld-validate synth`, GEOMETRY a name or a config.json. Each row is written as soon as it
is there: OUTPUT is a JSON list. What a cell raises is its row. The last group's cells need no second GPU.
"""

import argparse
import contextlib
import gc
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model
from theworld_validate.memory.cells import LEARNING_RATE, Cell

NUM_STEPS = 3
NUM_OFFLOADED_STEPS = 2  # AdamW takes long on the CPU, and every step's peak on the GPU is the same
NUM_PREDICTING = 5  # processes
_FULL = Cell(preset="full", checkpointing=True)
_SHARDED = tuple(replace(cell, num_gpus=2) for cell in (Cell(preset="full"), _FULL, Cell(preset="projection")))
GROUPS: dict[str, tuple[Cell, ...]] = {
    "fsdp2": (*_SHARDED, replace(_SHARDED[1], chunked_loss=True)),
    "ddp": (
        replace(_FULL, num_gpus=2, strategy="ddp"),
        Cell(preset="projection", num_gpus=2, strategy="ddp"),
        Cell(preset="vision", num_gpus=2, strategy="ddp", precision="mixed"),
    ),
    "fsdp2-mixed": tuple(replace(cell, precision="mixed") for cell in _SHARDED),
    "fsdp2-offload": (
        replace(_FULL, num_gpus=2, offload_optimizer=True),
        Cell(preset="projection", checkpointing=True, offload_activations=True, num_gpus=2),
    ),
    "offload": (
        Cell(preset="projection", checkpointing=True, offload_activations=True),
        Cell(preset="projection", offload_activations=True),
        replace(_FULL, offload_optimizer=True),
    ),
}


def prepare_step(model: Any, cell: Cell, mesh: Any) -> tuple[Any, Callable[[], None], Callable[[], None]]:
    """A real model as one rank has it, what its forward and backward pass is, and what its optimizer does.

    Args:
        model: a `TheWorld` in bfloat16, on the rank's device; it is changed for good.
        mesh: see `sharding.mesh_of`; not looked at for one GPU.
    """
    import torch

    from theworld.levers.master_weights import use_master_weights
    from theworld_validate.memory.offload import activations_offloaded, together
    from theworld_validate.memory.replication import replicate
    from theworld_validate.memory.sharding import shard

    device = model.device
    prepare_model(model, cell)
    if cell.precision == "mixed":
        use_master_weights(model)
    callee = model
    if cell.is_sharded:
        shard(model, mesh, cell)
    elif cell.num_gpus > 1:
        callee = replicate(model, cell, device=device)
    inputs = make_inputs(cell, model.config, device=device)
    is_autocast = cell.precision == "mixed" and not cell.is_sharded
    optimizer = make_optimizer(model, cell)

    def pass_once() -> None:
        autocast = torch.autocast(device.type, torch.bfloat16) if is_autocast else contextlib.nullcontext()
        context = together(autocast, activations_offloaded(cell))
        forward_and_backward(callee, inputs, on_phase=lambda phase: None, autocast=context)

    def learn() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return callee, pass_once, learn


def make_optimizer(model: Any, cell: Cell) -> Any:
    """AdamW; with offload on one GPU torchao's, whose steps are on the CPU."""
    import torch

    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if cell.offload_optimizer and not cell.is_sharded:
        from torchao.optim import CPUOffloadOptimizer

        return CPUOffloadOptimizer(trainable, torch.optim.AdamW, lr=LEARNING_RATE)
    return torch.optim.AdamW(trainable, lr=LEARNING_RATE)


def measure(checkpoint: Path, cell: Cell, mesh: Any) -> dict[str, Any]:
    """Steps of one cell on this rank's GPU."""
    import torch

    from theworld import TheWorld

    model = TheWorld.from_pretrained(
        checkpoint / "gemma",
        cosmos_model_name_or_path=str(checkpoint / "cosmos"),
        dtype=torch.bfloat16,
        device_map={"": torch.cuda.current_device()},
    )
    _, pass_once, learn = prepare_step(model, cell, mesh)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    if has_host_counters := hasattr(torch.cuda, "reset_peak_host_memory_stats"):
        torch.cuda.reset_peak_host_memory_stats()
    floor = torch.cuda.memory_allocated()
    for _ in range(NUM_OFFLOADED_STEPS if cell.offload_optimizer else NUM_STEPS):
        pass_once()
        learn()
    torch.cuda.synchronize()
    host = torch.cuda.host_memory_stats() if has_host_counters else {}
    return {
        "floor_bytes": floor,
        "measured_peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "measured_peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "measured_pinned_bytes": {name: size for name, size in host.items() if name.endswith("bytes.peak")},
    }


def measure_or_say(checkpoint: Path, cell: Cell, mesh: Any) -> dict[str, Any]:
    """`measure`, or what it raised."""
    if cell.offload_optimizer and not cell.is_sharded and importlib.util.find_spec("torchao") is None:
        return {"error": "torchao is not installed here"}
    try:
        return measure(checkpoint, cell, mesh)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:2000]}


def predict(geometry: str, cell: Cell) -> dict[str, Any]:
    """One cell, predicted in this process."""
    from theworld_validate.memory.answers import ModelSource, Question, answer_all

    (answer,) = answer_all(ModelSource(geometry=geometry).read(), [cell], Question())
    if answer.error is not None:
        return {"prediction_error": answer.error}
    (found,) = answer.results
    return {
        "predicted_peak_allocated_bytes": found.peak_allocated_bytes,
        "predicted_peak_reserved_bytes": found.peak_reserved_bytes,
        "predicted_host_bytes": found.host_bytes,
        "predicted_split_bytes": found.split_bytes,
        "predicted_phase_peaks_bytes": found.phase_peaks_bytes,
        "prediction_seconds": found.seconds,
    }


def predict_all(geometry: str, cells: Sequence[Cell], output: Path) -> None:
    """Predict cells in a few processes, the rows in the order in which they come."""
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(NUM_PREDICTING, os.cpu_count() or 1, len(cells)), mp_context=context) as pool:
        asked = {pool.submit(predict, geometry, cell): cell for cell in cells}
        for done in as_completed(asked):
            rows.append({**row_of(asked[done]), **done.result()})
            write(output, rows)


def measure_all(checkpoint: Path, cells: Sequence[Cell], output: Path) -> None:
    """Measure cells on every rank; the first one writes."""
    import torch
    import torch.distributed as dist

    from theworld_validate.memory.sharding import mesh_of

    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("cpu:gloo,cuda:nccl")  # the sums of shards that are on the host go by gloo
    mesh = mesh_of("cuda", dist.get_world_size())
    rows: list[dict[str, Any]] = []
    for cell in cells:
        rows.append({**row_of(cell), **measure_or_say(checkpoint, cell, mesh)})
        gc.collect()
        torch.cuda.empty_cache()
        if rank == 0:
            print(rows[-1], flush=True)
            write(output, rows)
    dist.destroy_process_group()


def row_of(cell: Cell) -> dict[str, Any]:
    """What names a row."""
    return {"configuration": cell.name, "cell": asdict(cell)}


def write(path: Path, rows: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(compact_json(rows), encoding="utf-8")
    scratch.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="CHECKPOINT|GEOMETRY")
    parser.add_argument("output", type=Path)
    parser.add_argument("--group", action="append", choices=GROUPS, help="may be repeated; all by default")
    parser.add_argument("--predict", action="store_true")
    options = parser.parse_args()
    cells = [cell for name in options.group or GROUPS for cell in GROUPS[name]]
    if options.predict:
        predict_all(options.model, cells, options.output)
    else:
        measure_all(Path(options.model), cells, options.output)


if __name__ == "__main__":
    main()
