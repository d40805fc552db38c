"""The evidence at the real size, on one GPU of 80 GB or more, in one command of about ten minutes.

    python benchmarks/gpu_evidence.py DIR [--only NAME]

Makes a 4B checkpoint on the device, then writes one report folder for each command into DIR, the benchmarks' figures
into `speed.json`, and the prediction of memory against its measurement into `accuracy.json`. What is timed, and what
fills the GPU, runs alone; the rest runs together. Predictions run on the CPU, in processes that are shown no GPU.
Cells that do not fit the GPU are results too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MATRIX = ("--chunked-loss", "both", "--world-tokens", "784", "--world-tokens", "4096")
PRECISIONS = ("--precision", "bfloat16", "--precision", "mixed")
BATCH = ("--chunked-loss", "both", "--batch", "4")
# Faults that only a GPU has, or has otherwise: precision of its units, its kernels, device hooks.
GPU_FAULTS = ("tf32-switched-on", "reductions-switched", "eager-attention", "device-hook")

Command = tuple[str, ...]


def predictions() -> dict[str, Command]:
    """Report folder -> arguments of the command line; on the CPU, beside everything else."""
    return {
        "memory-predict": ("memory", "predict", *MATRIX, *PRECISIONS, "--jobs", "8"),
        "memory-predict-batch-4": ("memory", "predict", *BATCH, "--jobs", "4"),
    }


def stages(checkpoint: Path) -> list[dict[str, Command]]:
    """Stages one after the other; what is in one stage runs together."""
    gemma = ("--model", f"{checkpoint}/gemma")
    model = (*gemma, "--cosmos", f"{checkpoint}/cosmos")
    cuda = ("--device", "cuda")
    faults = tuple(word for fault in GPU_FAULTS for word in ("--fault", fault))
    return [
        {"parity-sdpa": ("parity", *gemma, *cuda, "--attn", "sdpa")},
        {"memory-measure": ("memory", "measure", *model, *MATRIX, *PRECISIONS)},
        {"memory-measure-batch-4": ("memory", "measure", *model, *BATCH)},
        {
            "selftest": ("selftest", *gemma, *cuda, *faults),
            "buffers": ("buffers", *model, "--device", "auto", "--dtype", "bfloat16"),
            "gradients": ("gradients", *model, *cuda),
        },
        {"parity-float32": ("parity", *gemma, *cuda, "--dtype", "float32", "--probe", "text")},
        {"parity-eager": ("parity", *gemma, *cuda, "--attn", "eager")},  # 60 GB: whole attention maps for the gradients
        {"claims": ("claims", *model, *cuda)},
    ]


def start(arguments: Sequence[str], into: Path, *, gpu: bool = True) -> subprocess.Popen[bytes]:
    """Start one command of the harness."""
    environment = {**os.environ, **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})}
    command = [sys.executable, "-m", "validation", *arguments, "--output", str(into), "--quiet"]
    return subprocess.Popen(command, env=environment)


def run_stage(stage: dict[str, Command], folder: Path) -> dict[str, dict[str, Any]]:
    """Run a stage's commands together: name -> exit code and seconds."""
    began = time.perf_counter()
    running = {name: start(arguments, folder / name) for name, arguments in stage.items()}
    done = {}
    for name, process in running.items():
        code = process.wait()
        done[name] = {"exit_code": code, "seconds": time.perf_counter() - began}
        print(f"{name}: exit {code}, {done[name]['seconds']:.0f} s", flush=True)
    return done


def run_benchmarks(checkpoint: Path) -> dict[str, Any]:
    """The benchmarks that are ratios within one process, and the bare run that parity is held against."""
    speed: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, given in (("gpu_trace", f"{checkpoint}/gemma"), ("step_times", str(checkpoint))):
            output = Path(scratch, f"{name}.json")
            command = [sys.executable, str(HERE / f"{name}.py"), given, "--output", str(output)]
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0:
                speed[name] = json.loads(output.read_text(encoding="utf-8"))
    began = time.perf_counter()
    bare = [sys.executable, str(HERE / "bare_forwards.py"), f"{checkpoint}/gemma", "--device", "cuda"]
    if subprocess.run(bare, check=False).returncode == 0:
        speed["bare_seconds"] = time.perf_counter() - began
    return speed


def compare(measured: Path, predicted: Path) -> list[dict[str, Any]]:
    """Prediction against measurement, cell by cell: relative errors in percent."""
    key = ("configuration", "world_tokens", "text_tokens", "batch")
    cells = [
        {tuple(cell[name] for name in key): cell for cell in _cells(path / "report.json")}
        for path in (measured, predicted)
    ]
    rows = []
    for at, real in cells[0].items():
        row = dict(zip(key, at, strict=True))
        for peak in ("peak_allocated_bytes", "peak_reserved_bytes"):
            row[f"measured_{peak}"], row[f"predicted_{peak}"] = real[peak], cells[1][at][peak]
            if real[peak] is not None:
                row[f"{peak.removesuffix('_bytes')}_error_percent"] = 100 * (cells[1][at][peak] / real[peak] - 1)
        rows.append(row)
    return rows


def _cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["checks"][0]["measurements"]["cells"]


def write_accuracy(folder: Path) -> None:
    """Compare what was measured with what was predicted, where both are there."""
    pairs = [(folder / f"memory-measure{suffix}", folder / f"memory-predict{suffix}") for suffix in ("", "-batch-4")]
    rows = [row for pair in pairs if all((path / "report.json").is_file() for path in pair) for row in compare(*pair)]
    if not rows:
        return
    write(folder / "accuracy.json", rows)
    for peak in ("peak_allocated", "peak_reserved"):
        errors = [abs(row[f"{peak}_error_percent"]) for row in rows if f"{peak}_error_percent" in row]
        print(f"{peak}: {len(errors)} cells, median {statistics.median(errors):.3f} %, worst {max(errors):.3f} %")


def write(path: Path, value: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--checkpoint", type=Path, help="made by theworld-validate synth --size 4b; made anew if missing"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this part; may be repeated")
    options = parser.parse_args()
    began = time.perf_counter()
    checkpoint = options.checkpoint or Path(tempfile.mkdtemp(), "4b")
    if not checkpoint.exists():
        synth = [sys.executable, "-m", "validation", "synth", str(checkpoint), "--size", "4b", "--device", "cuda"]
        subprocess.run(synth, check=True)

    def chosen(stage: dict[str, Command]) -> dict[str, Command]:
        return {name: given for name, given in stage.items() if not options.only or name in options.only}

    speed: dict[str, Any] = {}
    done: dict[str, Any] = {}
    if not options.only or "speed" in options.only:
        speed = run_benchmarks(checkpoint)
    first, *others = [chosen(stage) for stage in stages(checkpoint)]
    done |= run_stage(first, options.folder)  # timed: nothing runs beside it
    if "bare_seconds" in speed and "parity-sdpa" in done:
        speed["parity_seconds"] = done["parity-sdpa"]["seconds"]
        speed["parity_over_bare"] = speed["parity_seconds"] / speed["bare_seconds"]
    if speed:
        write(options.folder / "speed.json", speed)
        print(json.dumps(speed, indent=1), flush=True)
    beside = {name: start(given, options.folder / name, gpu=False) for name, given in chosen(predictions()).items()}
    for stage in others:
        done |= run_stage(stage, options.folder)
    done |= {name: {"exit_code": process.wait(), "seconds": None} for name, process in beside.items()}
    write_accuracy(options.folder)
    write(options.folder / "parts.json", {"seconds": time.perf_counter() - began, "parts": done})
    print(f"{time.perf_counter() - began:.0f} s in all")
    raise SystemExit(any(part["exit_code"] for part in done.values()))


if __name__ == "__main__":
    main()
