"""Peak memory of a training step at the 4B geometry as other tools predict it, beside a measurement; prints a table.

    python benchmarks/memory_tools.py reports/h200-4b/accuracy.json

The measurement and our prediction are read from the evidence; the others run here. accelerate's command asks the hub
before it estimates, so its function is called on the model's size; DeepSpeed's formula (estimate_zero2_model_states_
mem_needs, one GPU, no offload: 20 bytes a parameter) is written out, as the package need not be built for it. Torch's
MemTracker is given the same model, tensors without data, inputs and step as our prediction.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from theworld_validate.memory.cells import Cell

PRESETS = ("projection", "vision", "language", "full")
GB = 1e9


def base_cells() -> list[Cell]:
    """The base matrix at 784 world tokens."""
    return [Cell(preset=preset, checkpointing=on) for preset in PRESETS for on in (False, True)]


def by_mem_tracker(cell: Cell) -> int:
    """Peak bytes of one step, the optimizer's included, by torch's MemTracker."""
    import torch
    from torch.distributed._tools.mem_tracker import MemTracker

    from theworld_validate.memory.cell_inputs import make_inputs
    from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model
    from theworld_validate.memory.predict import tensors_without_data
    from theworld_validate.subjects.empty_models import blueprint_of_size, build_without_data

    config = blueprint_of_size("4b")
    mode, model = build_without_data(config)
    with mode, tensors_without_data():
        prepare_model(model, cell)
        if cell.preset == "full":  # MemTracker takes no frozen parameter; the VAE's decoder gets no gradient anyway
            model.requires_grad_(True)
        inputs = make_inputs(cell, config, device="cpu", make=lambda shape, dtype: torch.zeros(shape, dtype=dtype))
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trainable, foreach=True, capturable=False)
        tracker = MemTracker()
        tracker.track_external(model, optimizer, *inputs.values())
        with tracker:
            forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=contextlib.nullcontext())
            optimizer.step()
        peaks = tracker.get_tracker_snapshot("peak")
    return max(sizes["Total"] for sizes in peaks.values())


def in_a_process(number: int) -> tuple[str, float, float]:
    """What MemTracker says of a base cell (or the error it ends with), seconds, and GB of memory that it took."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--mem-tracker", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout.strip() if done.returncode == 0 else (done.stderr.strip().splitlines() or ["killed"])[-1]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GB
    return said, time.perf_counter() - started, memory


def estimates(cell: Cell) -> dict[str, int]:
    """The two formulas: bytes."""
    from accelerate.commands.estimate import estimate_training_usage

    from theworld_validate.subjects.empty_models import blueprint_of_size, build_on_meta

    model = build_on_meta(blueprint_of_size("4b"), freeze=cell.preset)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "accelerate estimate-memory, bfloat16": max(estimate_training_usage(4 * parameters, "bfloat16").values()),
        "DeepSpeed's formula": 20 * parameters,
    }


def print_row(name: str, values: list[Any]) -> None:
    print(f"| {name} | " + " | ".join(str(value) for value in values) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accuracy", type=Path, nargs="?", help="accuracy.json of the evidence")
    parser.add_argument("--mem-tracker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cells = base_cells()
    if options.mem_tracker is not None:
        print(by_mem_tracker(cells[options.mem_tracker]))
        return
    rows = json.loads(options.accuracy.read_text(encoding="utf-8"))
    at = {(row["configuration"], row["world_tokens"], row["batch"]): row for row in rows}
    known = [at[(cell.name, cell.world_tokens, cell.batch)] for cell in cells]
    measured = [row["measured_peak_allocated_bytes"] for row in known]
    print_row("GB, 1 x (1,024 text + 784 world tokens)", [cell.name for cell in cells] + ["median error"])
    print("|" + "---|" * (len(cells) + 2))
    print_row("measured", [f"{peak / GB:.2f}" for peak in measured] + [""])
    said = {"theworld-validate memory predict": [row["predicted_peak_allocated_bytes"] for row in known]}
    for cell in cells:
        for name, num_bytes in estimates(cell).items():
            said.setdefault(name, []).append(num_bytes)
    for name, peaks in said.items():
        error = statistics.median(abs(peak / real - 1) for peak, real in zip(peaks, measured, strict=True))
        print_row(name, [f"{peak / GB:.2f}" for peak in peaks] + [f"{100 * error:.2f} %"])
    tracked = [in_a_process(number) for number in range(len(cells))]
    shown = [f"{int(what) / GB:.2f}" if what.isdigit() else what for what, _, _ in tracked]
    errors = [abs(int(w) / real - 1) for (w, _, _), real in zip(tracked, measured, strict=True) if w.isdigit()]
    error = f"{100 * statistics.median(errors):.2f} % of {len(errors)}" if errors else "none ran"
    print_row("torch MemTracker", [*shown, error])
    print_row("its seconds", [f"{seconds:.0f}" for _, seconds, _ in tracked] + [""])
    print(f"its memory: {max(memory for _, _, memory in tracked):.1f} GB")


if __name__ == "__main__":
    main()
