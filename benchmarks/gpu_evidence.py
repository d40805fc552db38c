"""The evidence at the real size, on one GPU of 80 GB or more, in one command.

    python benchmarks/gpu_evidence.py DIR [--only NAME]

Of inference alone, in five minutes:

    python benchmarks/gpu_evidence.py DIR --only generate-predict --only generate-measure \\
        --only rollout-predict --only rollout-measure

Of LoRA, QLoRA, the 8-bit optimizer, accumulation and evaluation, which need PEFT and bitsandbytes:

    python benchmarks/gpu_evidence.py DIR --only kinds-predict --only kinds-measure

Of runs of changing length, each in less than ten minutes (see `memory_runs.py`):

    python benchmarks/gpu_evidence.py DIR --only runs
    python benchmarks/gpu_evidence.py DIR --only runs-expandable
    python benchmarks/gpu_evidence.py DIR --only runs-limited

Makes a 4B checkpoint on the device, then writes one report folder for each command into DIR, the benchmarks' figures
into `speed.json`, and the prediction of memory against its measurement into `accuracy.json`. What is timed, and what
may fill the GPU, runs alone; of the rest, as much runs together as the GPU has memory for. Predictions run on the CPU,
in processes that are shown no GPU. Cells that do not fit the GPU are results too.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.memory.gpus import GIB, gpu_bytes

HERE = Path(__file__).parent
MATRIX = ("--chunked-loss", "both", "--world-tokens", "784", "--world-tokens", "4096")
MATRIX += ("--precision", "bfloat16", "--precision", "mixed")
# Inference at the default workload: a clip and an image, 1,024 tokens of text; what predicts resident and offloaded.
GENERATE = ("--task", "generate", "--batch", "1", "--batch", "4", "--new-tokens", "2", "--new-tokens", "128")
ROLLOUT = ("--task", "rollout", "--new-tokens", "16", "--denoising-steps", "4", "--offload", "both")
# Kinds of cell that are measured once each, at the default workload: one command of each kind.
ONCE = ("--checkpointing", "on")
KINDS = {
    "lora": ("--adapter", "lora:16", "--checkpointing", "both"),
    "qlora": ("--adapter", "lora:16", "--checkpointing", "both", "--quantization", "nf4"),
    "8-bit": ("--preset", "full", *ONCE, "--optimizer", "adamw-8bit"),
    "accumulation": ("--preset", "projection", "--preset", "full", *ONCE, "--accumulation", "4"),
    "evaluate": ("--task", "evaluate", "--batch", "1", "--batch", "4"),
}
# Name that `--only` takes -> the parts that it stands for.
GROUPS = {f"kinds-{verb}": tuple(f"{kind}-{verb}" for kind in KINDS) for verb in ("predict", "measure")}
# Ratios within one process; and parity's forwards unobserved, which the whole of parity is held against.
BENCHMARKS = ("gpu_trace", "step_times", "bare")
# Runs of changing length: part of the evidence -> part of `memory_runs.py`. They ask for a GPU alone.
RUNS = {"runs": "plain", "runs-expandable": "expandable", "runs-limited": "limited"}
# Faults that only a GPU has, or has otherwise: precision of its units, its kernels, device hooks.
GPU_FAULTS = ("tf32-switched-on", "reductions-switched", "eager-attention", "device-hook")


@dataclass(frozen=True)
class Part:
    """One command of the harness.

    Args:
        name: of its report folder.
        arguments: of the command line.
        gpu_gb: GPU memory that it may take, with room to spare; 0 for what is shown no GPU.
    """

    name: str
    arguments: tuple[str, ...]
    gpu_gb: int = 0


def list_stages(checkpoint: Path) -> list[list[Part]]:
    """Stages one after the other; what is in one stage runs together where there is memory for it."""
    gemma = ("--model", f"{checkpoint}/gemma")
    model = (*gemma, "--cosmos", f"{checkpoint}/cosmos")
    cuda = ("--device", "cuda")
    faults = tuple(word for fault in GPU_FAULTS for word in ("--fault", fault))
    return [
        [Part("parity-sdpa", ("parity", *gemma, *cuda, "--attn", "sdpa"), 60)],
        [
            # Whole attention maps for the gradients are what takes the memory.
            Part("parity-eager", ("parity", *gemma, *cuda, "--attn", "eager"), 64),
            Part("claims", ("claims", *model, *cuda), 56),
            Part("buffers", ("buffers", *model, "--device", "auto", "--dtype", "bfloat16"), 20),
            Part("selftest", ("selftest", *gemma, *cuda, *faults), 64),
            Part("parity-float32", ("parity", *gemma, *cuda, "--dtype", "float32", "--probe", "text"), 50),
            Part("gradients", ("gradients", *model, *cuda), 30),
            Part("memory-predict", ("memory", "predict", *MATRIX, "--jobs", "6")),
            Part("memory-predict-batch-4", ("memory", "predict", *MATRIX, "--batch", "4", "--jobs", "6")),
        ],
        [Part("memory-measure-batch-4", ("memory", "measure", *model, *MATRIX, "--batch", "4"), 1000)],
        [Part("memory-measure", ("memory", "measure", *model, *MATRIX), 1000)],
        [
            Part("generate-predict", ("memory", "predict", *GENERATE, "--jobs", "4")),
            Part("rollout-predict", ("memory", "predict", *ROLLOUT, "--jobs", "2")),
            Part("generate-measure", ("memory", "measure", *model, *GENERATE), 1000),
        ],
        [Part("rollout-measure", ("memory", "measure", *model, *ROLLOUT), 1000)],
        [
            *(Part(f"{kind}-predict", ("memory", "predict", *cells, "--jobs", "2")) for kind, cells in KINDS.items()),
            *(Part(f"{kind}-measure", ("memory", "measure", *model, *cells), 1000) for kind, cells in KINDS.items()),
        ],
    ]


def start(part: Part, folder: Path) -> subprocess.Popen[bytes]:
    """Start one part."""
    environment = {**os.environ, **({} if part.gpu_gb else {"CUDA_VISIBLE_DEVICES": ""})}
    command = [
        sys.executable,
        "-m",
        "theworld_validate",
        *part.arguments,
        "--output",
        str(folder / part.name),
        "--quiet",
    ]
    return subprocess.Popen(command, env=environment)


def run_stage(stage: Sequence[Part], folder: Path, capacity_gb: float) -> dict[str, dict[str, Any]]:
    """Run a stage's parts, in their order as memory allows: name -> exit code and seconds."""
    waiting = list(stage)
    running: dict[Part, tuple[subprocess.Popen[bytes], float]] = {}
    done = {}
    while waiting or running:
        for part in list(waiting):
            taken_gb = sum(other.gpu_gb for other in running)
            if not taken_gb or taken_gb + part.gpu_gb <= capacity_gb:
                waiting.remove(part)
                running[part] = start(part, folder), time.perf_counter()
        for part, (process, began) in list(running.items()):
            if process.poll() is not None:
                del running[part]
                done[part.name] = {"exit_code": process.returncode, "seconds": time.perf_counter() - began}
                print(f"{part.name}: exit {process.returncode}, {done[part.name]['seconds']:.0f} s", flush=True)
        time.sleep(0.2)
    return done


def run_benchmark(name: str, checkpoint: Path) -> dict[str, Any]:
    """Run one of `BENCHMARKS` by itself: its figures, or nothing if it fails."""
    if name == "bare":
        began = time.perf_counter()
        bare = [sys.executable, str(HERE / "bare_forwards.py"), f"{checkpoint}/gemma", "--device", "cuda"]
        failed = subprocess.run(bare, check=False).returncode
        return {} if failed else {"bare_seconds": time.perf_counter() - began}
    given = f"{checkpoint}/gemma" if name == "gpu_trace" else str(checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, f"{name}.json")
        command = [sys.executable, str(HERE / f"{name}.py"), given, "--output", str(output)]
        failed = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
        return {} if failed else {name: json.loads(output.read_text(encoding="utf-8"))}


def run_runs(part: str, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Measure one part of the runs of changing length: exit code and seconds."""
    began = time.perf_counter()
    command = [sys.executable, str(HERE / "memory_runs.py"), str(checkpoint), str(folder), "--part", RUNS[part]]
    failed = subprocess.run(command, check=False).returncode
    return {"exit_code": failed, "seconds": time.perf_counter() - began}


def compare(measured: Path, predicted: Path, available_bytes: int) -> list[dict[str, Any]]:
    """Prediction against measurement, cell by cell: relative errors in percent, and whether it runs.

    Args:
        available_bytes: what a process may reserve, as `memory predict --gpu` has it.
    """
    key = ("configuration", "world_tokens", "text_tokens", "batch", "frames", "new_tokens", "world_steps")
    cells = [
        {tuple(cell.get(name) for name in key): cell for cell in _cells(path / "report.json")}
        for path in (measured, predicted)
    ]
    rows = []
    for at, real in cells[0].items():
        row = {name: value for name, value in zip(key, at, strict=True) if value is not None}
        row["ran"] = real["peak_allocated_bytes"] is not None
        row["predicted_to_fit"] = cells[1][at]["peak_reserved_bytes"] <= available_bytes
        for peak in ("peak_allocated_bytes", "peak_reserved_bytes"):
            row[f"measured_{peak}"], row[f"predicted_{peak}"] = real[peak], cells[1][at][peak]
            if real[peak] is not None:
                row[f"{peak.removesuffix('_bytes')}_error_percent"] = 100 * (cells[1][at][peak] / real[peak] - 1)
        rows.append(row)
    return rows


def _cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["checks"][0]["measurements"]["cells"]


def write_accuracy(folder: Path, gpu_gib: float) -> None:
    """Compare what was measured with what was predicted, where both are there."""
    available_bytes = gpu_bytes(str(gpu_gib))
    pairs = [(folder / f"memory-measure{suffix}", folder / f"memory-predict{suffix}") for suffix in ("", "-batch-4")]
    kinds = ("generate", "rollout", *KINDS)
    pairs += [(folder / f"{kind}-measure", folder / f"{kind}-predict") for kind in kinds]
    pairs = [pair for pair in pairs if all((path / "report.json").is_file() for path in pair)]
    rows = [row for pair in pairs for row in compare(*pair, available_bytes)]
    if not rows:
        return
    write(folder / "accuracy.json", rows)
    for peak in ("peak_allocated", "peak_reserved"):
        errors = [abs(row[f"{peak}_error_percent"]) for row in rows if f"{peak}_error_percent" in row]
        print(f"{peak}: {len(errors)} cells, median {statistics.median(errors):.3f} %, worst {max(errors):.3f} %")
    for ran, fits in itertools.product((True, False), repeat=2):
        num = sum(row["ran"] == ran and row["predicted_to_fit"] == fits for row in rows)
        print(f"{num} cells {'ran' if ran else 'ran out of memory'}, predicted {'to fit' if fits else 'not to fit'}")


def write(path: Path, value: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact_json(value), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--checkpoint", type=Path, help="made by theworld-validate synth --size 4b; made anew if missing"
    )
    names = [*BENCHMARKS, *RUNS, *(part.name for stage in list_stages(Path()) for part in stage)]
    only_help = f"only this part; may be repeated: {', '.join((*names, *GROUPS))}"
    parser.add_argument("--only", action="append", choices=(*names, *GROUPS), metavar="NAME", help=only_help)
    options = parser.parse_args()
    wanted = [part for name in options.only or names for part in GROUPS.get(name, (name,))]
    began = time.perf_counter()
    checkpoint = options.checkpoint or Path(tempfile.mkdtemp(), "4b")
    if not checkpoint.exists():
        synth = [
            sys.executable,
            "-m",
            "theworld_validate",
            "synth",
            str(checkpoint),
            "--size",
            "4b",
            "--device",
            "cuda",
            *(("--pipeline",) if any(name.startswith("rollout") for name in wanted) else ()),
        ]
        subprocess.run(synth, check=True)

    gpu_memory = torch.cuda.get_device_properties(0).total_memory
    done: dict[str, Any] = {}
    speed: dict[str, Any] = {}
    for name in BENCHMARKS:
        if name in wanted:
            speed |= run_benchmark(name, checkpoint)
            write(options.folder / "speed.json", speed)  # after each: a run that is cut off keeps it
    for name in RUNS:
        if name in wanted:
            done[name] = run_runs(name, checkpoint, options.folder)
    for stage in list_stages(checkpoint):
        finished = run_stage([part for part in stage if part.name in wanted], options.folder, gpu_memory / 1e9)
        done |= finished
        if "bare_seconds" in speed and "parity-sdpa" in finished:
            speed["parity_seconds"] = finished["parity-sdpa"]["seconds"]
            speed["parity_over_bare"] = speed["parity_seconds"] / speed["bare_seconds"]
            write(options.folder / "speed.json", speed)
    write_accuracy(options.folder, gpu_memory / GIB)
    write(options.folder / "parts.json", {"seconds": time.perf_counter() - began, "parts": done})
    print(json.dumps(speed, indent=1), flush=True)
    print(f"{time.perf_counter() - began:.0f} s in all")
    raise SystemExit(any(part["exit_code"] for part in done.values()))


if __name__ == "__main__":
    main()
