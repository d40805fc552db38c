"""Time and memory of a training step with and without the chunked loss, on a GPU, as ratios within this run.

    python benchmarks/step_times.py CHECKPOINT [--output FILE]

CHECKPOINT is what `theworld-validate synth` writes. Each configuration runs on one loaded model, the steps of two
taking turns, so that the machine's drift touches both.
"""

import argparse
import contextlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from theworld import TheWorld
from validation.memory.cells import LEARNING_RATE, Cell, forward_and_backward, make_inputs, prepare_model

ROUNDS, STEPS = 3, 4


def steps(model: Any, cell: Cell, inputs: dict[str, Any]) -> tuple[list[float], int]:
    """Seconds of each step but the first, and the peak of allocated bytes."""
    prepare_model(model, cell)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=contextlib.nullcontext())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return times[1:], torch.cuda.max_memory_allocated()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model = TheWorld.from_pretrained(
        options.checkpoint / "gemma",
        cosmos_model_name_or_path=str(options.checkpoint / "cosmos"),
        dtype=torch.bfloat16,
        device_map={"": "cuda:0"},
    )
    rows = []
    for world_tokens in (784, 4096):
        inputs = make_inputs(Cell(world_tokens=world_tokens), model.config, device="cuda")
        seen: dict[bool, list[float]] = {False: [], True: []}
        peaks = {}
        for _ in range(ROUNDS):
            for chunked in seen:
                cell = Cell(checkpointing=True, chunked_loss=chunked, world_tokens=world_tokens)
                times, peaks[chunked] = steps(model, cell, inputs)
                seen[chunked] += times
        plain, chunked = (statistics.median(seen[switch]) for switch in (False, True))
        rows.append(
            {
                "world_tokens": world_tokens,
                "plain_step_seconds": plain,
                "chunked_step_seconds": chunked,
                "chunked_over_plain": chunked / plain,
                "plain_peak_bytes": peaks[False],
                "chunked_peak_bytes": peaks[True],
            }
        )
        print(rows[-1], flush=True)
    if options.output:
        text = json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "steps": rows}, indent=1)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
