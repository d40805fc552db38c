"""Memory of runs of changing length, measured on a GPU beside what `memory predict --lengths` says of them.

    python benchmarks/memory_runs.py CHECKPOINT FOLDER --part plain|expandable|limited

CHECKPOINT is what `theworld-validate synth --size 4b` writes. FOLDER has, or gets, `lengths.txt` and the prediction's
report; the part's rows go into `runs-PART.json`. Each run is a process of its own, since the allocator is set by the
environment, and begins with nothing cached; as many run at once as the GPU has memory for. "limited" takes the least
memory that was predicted, 3 % more and 3 % less, by `torch.cuda.set_per_process_memory_fraction`: the one has to
complete, the other not.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model
from theworld_validate.memory.cells import LEARNING_RATE, Cell
from theworld_validate.memory.gpus import GIB
from theworld_validate.memory.lengths import read_lengths

PARTS = ("plain", "expandable", "limited")
NUM_STEPS, LENGTHS, SEED = 30, "uniform:100:1024", 0
MARGIN = 0.03  # of the least memory, to both sides
PRESETS = ("projection", "vision", "language", "full")
# Of the expandable and the limited runs: those that hold most unused, and one in which the optimizer is the most.
FEW = (("projection", False), ("vision", False), ("language", True), ("full", True))
LIMITED = (("projection", False), ("vision", True), ("language", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run; bytes are None where no GPU is."""

    configuration: str
    expandable: bool
    limit_bytes: int | None
    num_steps: int
    out_of_memory_step: int | None
    retries: int | None
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None


def list_runs(part: str, least: dict[str, int]) -> list[tuple[Cell, bool, int | None]]:
    """The runs of a part: cell, whether segments are expandable, and the limit.

    Args:
        least: configuration -> the least memory that was predicted.
    """
    if part == "plain":
        return [
            (Cell(preset=preset, checkpointing=checkpointing), False, None)
            for preset in PRESETS
            for checkpointing in (False, True)
        ]
    if part == "expandable":
        return [(Cell(preset=preset, checkpointing=checkpointing), True, None) for preset, checkpointing in FEW]
    cells = [Cell(preset=preset, checkpointing=checkpointing) for preset, checkpointing in LIMITED]
    return [(cell, False, int(least[cell.name] * (1 + sign * MARGIN))) for cell in cells for sign in (1, -1)]


def run_steps(model: Any, cell: Cell, lengths: Sequence[int], *, limit_bytes: int | None = None) -> Measurement:
    """Train a model for a step of each length, as the prediction has it: each batch comes before the last one goes."""
    import torch

    has_gpu = model.device.type == "cuda"
    prepare_model(model, cell)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=LEARNING_RATE)
    num_steps, out_of_memory_step = 0, None
    inputs: dict[str, Any] = {}
    try:
        for length in lengths:
            num_steps += 1
            inputs = make_inputs(replace(cell, text_tokens=length), model.config, device=model.device)
            forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=contextlib.nullcontext())
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    except torch.OutOfMemoryError:
        out_of_memory_step = num_steps
    return Measurement(
        configuration=cell.name,
        expandable="expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        limit_bytes=limit_bytes,
        num_steps=num_steps,
        out_of_memory_step=out_of_memory_step,
        retries=torch.cuda.memory_stats()["num_alloc_retries"] if has_gpu else None,
        peak_allocated_bytes=torch.cuda.max_memory_allocated() if has_gpu else None,
        peak_reserved_bytes=torch.cuda.max_memory_reserved() if has_gpu else None,
    )


def measure_one(checkpoint: Path, cell: Cell, lengths: Sequence[int], limit_bytes: int | None) -> Measurement:
    """Load the checkpoint on the GPU of this process, under its limit, and run."""
    import torch

    from theworld import TheWorld

    if limit_bytes is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(limit_bytes / total)
    model = TheWorld.from_pretrained(
        checkpoint / "gemma",
        cosmos_model_name_or_path=str(checkpoint / "cosmos"),
        dtype=torch.bfloat16,
        device_map={"": 0},
    )
    return run_steps(model, cell, lengths, limit_bytes=limit_bytes)


def predict(folder: Path, *, expandable: bool) -> list[dict[str, Any]]:
    """The prediction's rows, made on the CPU where the folder has none."""
    name = "runs-predict-expandable" if expandable else "runs-predict"
    report = folder / name / "report.json"
    if not report.is_file():
        lengths = ("--lengths", str(folder / "lengths.txt"))
        cells = [("--preset", preset) for preset in PRESETS]
        command = [sys.executable, "-m", "theworld_validate", "memory", "predict", *lengths]
        command += [word for pair in cells for word in pair] + (["--expandable-segments"] if expandable else [])
        command += ["--jobs", str(min(os.cpu_count() or 1, 8)), "--output", str(report.parent), "--quiet"]
        subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return json.loads(report.read_text(encoding="utf-8"))["checks"][0]["measurements"]["runs"]


def compare(measured: Measurement, predicted: dict[str, Any]) -> dict[str, Any]:
    """A run beside its prediction: errors in percent; of a limited one, whether it did what was predicted."""
    row: dict[str, Any] = asdict(measured)
    if measured.limit_bytes is not None:
        row["predicted_least_bytes"] = predicted["least_bytes"]
        row["predicted_to_complete"] = measured.limit_bytes >= predicted["least_bytes"]
        row["as_predicted"] = row["predicted_to_complete"] == (measured.out_of_memory_step is None)
        return row
    for peak in ("peak_allocated_bytes", "peak_reserved_bytes"):
        row[f"predicted_{peak}"] = predicted[peak]
        real = row[peak]
        if real is not None and measured.out_of_memory_step is None:
            row[f"{peak.removesuffix('_bytes')}_error_percent"] = 100 * (predicted[peak] / real - 1)
    return row


def run_together(
    checkpoint: Path, folder: Path, runs: Sequence[tuple[Cell, bool, int | None]], needed_bytes: Sequence[int]
) -> Iterator[tuple[int, Measurement]]:
    """Measure runs, as many at once as the GPU has memory for: what a process holds does not depend on the others.

    Args:
        needed_bytes: what each will reserve at most, as predicted; some more is kept free for it.

    Yields:
        The number of a run that has ended, and what was measured.
    """
    import torch

    free, _ = torch.cuda.mem_get_info()
    waiting, running = list(range(len(runs))), {}
    while waiting or running:
        for number in list(waiting):
            taken = sum(_room_bytes(needed_bytes[other]) for other in running)
            if not running or taken + _room_bytes(needed_bytes[number]) <= free:
                waiting.remove(number)
                cell, expandable, limit = runs[number]
                one = json.dumps({"cell": asdict(cell), "limit": limit})
                command = [sys.executable, __file__, str(checkpoint), str(folder), "--one", one]
                setting = {"PYTORCH_CUDA_ALLOC_CONF": f"expandable_segments:{expandable}"}
                running[number] = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **setting})
        for number, process in list(running.items()):
            if process.poll() is not None:
                printed, _ = running.pop(number).communicate()
                if process.returncode:
                    raise SystemExit(f"the run {runs[number][0].name} ended with exit code {process.returncode}")
                yield number, Measurement(**json.loads(printed))
        time.sleep(0.2)


def _room_bytes(needed_bytes: int) -> int:
    """Memory of the GPU to keep free for a run: CUDA itself and the libraries lie beside what it reserves."""
    return int(needed_bytes * 1.1) + 2 * GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", choices=PARTS, default="plain")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a run of its own process: cell and limit, as JSON
    options = parser.parse_args()
    file = options.folder / "lengths.txt"
    if options.one is not None:
        asked = json.loads(options.one)
        lengths = read_lengths(str(file)).values
        print(json.dumps(asdict(measure_one(options.checkpoint, Cell(**asked["cell"]), lengths, asked["limit"]))))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        drawn = read_lengths(LENGTHS, num_steps=NUM_STEPS, seed=SEED).values
        file.write_text("".join(f"{length}\n" for length in drawn), encoding="utf-8")
    predicted = {row["configuration"]: row for row in predict(options.folder, expandable=options.part == "expandable")}
    runs = list_runs(options.part, {name: row["least_bytes"] for name, row in predicted.items()})
    needed = [limit or predicted[cell.name]["peak_reserved_bytes"] for cell, _, limit in runs]
    rows: dict[int, dict[str, Any]] = {}
    for number, measured in run_together(options.checkpoint, options.folder, runs, needed):
        rows[number] = compare(measured, predicted[runs[number][0].name])
        print(rows[number], flush=True)
        output = options.folder / f"runs-{options.part}.json"  # after each: a part that is cut off keeps it
        in_order = [rows[index] for index in sorted(rows)]
        output.write_text(compact_json(in_order), encoding="utf-8")


if __name__ == "__main__":
    main()
