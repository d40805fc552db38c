"""The evidence at the real size, on one GPU of 80 GB or more, in one command of about ten minutes.

    python benchmarks/gpu_evidence.py DIR [--only NAME]

Makes a 4B checkpoint on the device, then writes one report folder for each command into DIR: parity, the audits,
memory measured and predicted for the same cells (the prediction in a process that is shown no GPU), the claims, and
`accuracy.json`, the prediction against the measurement. Cells that do not fit the GPU are results too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MATRIX = ("--chunked-loss", "both", "--world-tokens", "784", "--world-tokens", "4096")
PRECISIONS = ("--precision", "bfloat16", "--precision", "mixed")
BATCH = ("--chunked-loss", "both", "--batch", "4")


def commands(checkpoint: Path) -> dict[str, tuple[str, ...]]:
    """Report folder -> what the command line gets; predictions run beside the rest, on the CPU."""
    model = ("--model", f"{checkpoint}/gemma", "--cosmos", f"{checkpoint}/cosmos")
    return {
        "memory-predict": ("memory", "predict", *MATRIX, *PRECISIONS, "--jobs", "8"),
        "memory-predict-batch-4": ("memory", "predict", *BATCH, "--jobs", "4"),
        "memory-measure": ("memory", "measure", *model, *MATRIX, *PRECISIONS),
        "memory-measure-batch-4": ("memory", "measure", *model, *BATCH),
        "claims": ("claims", *model, "--device", "cuda"),  # it runs parity too
        "gradients": ("gradients", *model, "--device", "cuda"),
        "buffers": ("buffers", *model, "--device", "cuda", "--dtype", "bfloat16"),
    }


def start(name: str, arguments: tuple[str, ...], into: Path) -> subprocess.Popen[bytes]:
    """Start one command; a prediction is shown no GPU."""
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if "predict" in name else {})}
    command = [sys.executable, "-m", "validation", *arguments, "--output", str(into / name), "--quiet"]
    return subprocess.Popen(command, env=environment)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--checkpoint", type=Path, help="made by theworld-validate synth --size 4b; made anew if missing"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this command's folder; may be repeated")
    options = parser.parse_args()
    checkpoint = options.checkpoint or Path(tempfile.mkdtemp(), "4b")
    if not checkpoint.exists():
        synth = [sys.executable, "-m", "validation", "synth", str(checkpoint), "--size", "4b", "--device", "cuda"]
        subprocess.run(synth, check=True)
    chosen = {name: given for name, given in commands(checkpoint).items() if not options.only or name in options.only}
    beside = {name: start(name, given, options.folder) for name, given in chosen.items() if "predict" in name}
    codes = {}
    for name, given in chosen.items():
        if name not in beside:
            began = time.perf_counter()
            codes[name] = start(name, given, options.folder).wait()
            print(f"{name}: exit {codes[name]}, {time.perf_counter() - began:.0f} s", flush=True)
    codes |= {name: process.wait() for name, process in beside.items()}
    rows = []
    for suffix in ("", "-batch-4"):
        if {f"memory-measure{suffix}", f"memory-predict{suffix}"} <= chosen.keys():
            rows += compare(options.folder / f"memory-measure{suffix}", options.folder / f"memory-predict{suffix}")
    if rows:
        (options.folder / "accuracy.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        for peak in ("peak_allocated", "peak_reserved"):
            errors = [abs(row[f"{peak}_error_percent"]) for row in rows if f"{peak}_error_percent" in row]
            print(f"{peak}: {len(errors)} cells, median {statistics.median(errors):.3f} %, worst {max(errors):.3f} %")
    print(codes)
    raise SystemExit(any(codes.values()))


if __name__ == "__main__":
    main()
