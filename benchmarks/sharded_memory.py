"""Peak memory of one rank of a model sharded with FSDP2, measured and predicted; prints a table, rank 0 alone.

    torchrun --nproc-per-node 2 benchmarks/sharded_memory.py CHECKPOINT [--output FILE]

CHECKPOINT is what `theworld-validate synth --size 4b` writes. The units are those of the prediction: a decoder or
encoder layer each, and the rest as the root.
"""

import argparse
import contextlib
import gc
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from theworld import TheWorld
from theworld_validate.documents.compact_json import compact_json
from theworld_validate.memory.answers import Question, answer_all
from theworld_validate.memory.cells import LEARNING_RATE, Cell, forward_and_backward, make_inputs, prepare_model
from theworld_validate.memory.sharding import shard

NUM_STEPS = 3
GB = 1e9


def cells_for(num_gpus: int) -> list[Cell]:
    """The two presets at the ends, and each lever."""
    return [
        Cell(preset=preset, checkpointing=checkpointing, chunked_loss=chunked, num_gpus=num_gpus)
        for preset in ("projection", "full")
        for checkpointing in (False, True)
        for chunked in (False, True)
    ]


def measure(checkpoint: Path, cell: Cell, mesh: Any) -> dict[str, Any]:
    """Three steps of one cell on this rank."""
    model = TheWorld.from_pretrained(
        checkpoint / "gemma",
        cosmos_model_name_or_path=str(checkpoint / "cosmos"),
        dtype=torch.bfloat16,
        device_map={"": torch.cuda.current_device()},
    )
    prepare_model(model, cell)
    shard(model, mesh)
    gc.collect()
    torch.cuda.empty_cache()
    inputs = make_inputs(cell, model.config, device="cuda")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    floor = torch.cuda.memory_allocated()
    for _ in range(NUM_STEPS):
        forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=contextlib.nullcontext())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    return {
        "floor_bytes": floor,
        "measured_peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "measured_peak_reserved_bytes": torch.cuda.max_memory_reserved(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    dist.init_process_group("nccl")
    torch.cuda.set_device(dist.get_rank())
    mesh = init_device_mesh("cuda", (dist.get_world_size(),))
    cells = cells_for(dist.get_world_size())
    rows = []
    for cell in cells:
        rows.append({"configuration": cell.name, **measure(options.checkpoint, cell, mesh)})
        gc.collect()
        torch.cuda.empty_cache()
        if dist.get_rank() == 0:
            print(rows[-1], flush=True)
    is_first = dist.get_rank() == 0
    dist.destroy_process_group()
    if not is_first:
        return
    from theworld_validate.subjects.empty_models import blueprint_of_size

    answers = answer_all(blueprint_of_size("4b"), cells, Question())
    for row, answer in zip(rows, answers, strict=True):
        (predicted,) = answer.results
        for peak in ("peak_allocated_bytes", "peak_reserved_bytes"):
            row[f"predicted_{peak}"] = getattr(predicted, peak)
            error = row[f"predicted_{peak}"] / row[f"measured_{peak}"] - 1
            row[f"{peak.removesuffix('_bytes')}_error_percent"] = 100 * error
        row["predicted_split_bytes"] = predicted.split_bytes
        row["predicted_phase_peaks_bytes"] = predicted.phase_peaks_bytes
        print(
            f"{row['configuration']:60} measured {row['measured_peak_allocated_bytes'] / GB:7.2f} GB, "
            f"allocated {row['peak_allocated_error_percent']:+.3f} %, "
            f"reserved {row['peak_reserved_error_percent']:+.3f} %"
        )
    if options.output:
        options.output.write_text(compact_json(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
