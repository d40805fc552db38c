"""Time and memory of a training step with and without the chunked loss, on a GPU, as ratios within this run.

    python benchmarks/step_times.py CHECKPOINT [--output FILE]

CHECKPOINT is what `theworld-validate synth` writes. Each configuration runs on one loaded model, the steps of all
taking turns, so that the machine's drift touches each. Labels are those of text, as in training, or of every token:
the chunked loss asks the head for no row that has none. Its backends are all that are here.
"""

import argparse
import contextlib
import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from theworld import TheWorld
from theworld.levers.chunked_loss import available_backends
from theworld_validate.documents.compact_json import compact_json
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model
from theworld_validate.memory.cells import CHUNK_SIZE, LEARNING_RATE, Cell

ROUNDS, STEPS, WARM_UPS = 5, 6, 2


def steps(model: Any, cell: Cell, inputs: dict[str, Any], backend: str | None) -> tuple[list[float], int]:
    """Seconds of each step after the first two, and the peak of allocated bytes; no chunks if `backend` is None."""
    prepare_model(model, cell)
    model.set_chunked_loss(None if backend is None else CHUNK_SIZE, backend=backend or "plain")
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
    return times[WARM_UPS:], torch.cuda.max_memory_allocated()


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
    for world_tokens, labels in itertools.product((784, 4096), ("text", "every token")):
        cell = Cell(checkpointing=True, world_tokens=world_tokens)
        inputs = make_inputs(cell, model.config, device="cuda")
        if labels != "text":
            inputs["labels"] = inputs["input_ids"].clone()
        backends = (None, *available_backends())
        seen: dict[str | None, list[float]] = {backend: [] for backend in backends}
        peaks = {}
        for _ in range(ROUNDS):
            for backend in backends:
                times, peaks[backend] = steps(model, cell, inputs, backend)
                seen[backend] += times
        unchunked = statistics.median(seen[None])
        for backend in available_backends():
            chunked = statistics.median(seen[backend])
            row = {"world_tokens": world_tokens, "labels": labels, "backend": backend}
            row |= {"unchunked_step_seconds": unchunked, "chunked_step_seconds": chunked}
            ratios = [c / u for c, u in zip(seen[backend], seen[None], strict=True)]
            row |= {"chunked_over_unchunked": chunked / unchunked}
            row |= {"chunked_over_unchunked_quartiles": statistics.quantiles(ratios, n=4)}
            row |= {"unchunked_peak_bytes": peaks[None], "chunked_peak_bytes": peaks[backend]}
            rows.append(row)
            print(row, flush=True)
    if options.output:
        text = compact_json({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "steps": rows})
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
