"""Peak memory of real training, stage by stage, beside what the dry run says of it: `theworld-train` as users run it.

    python -m benchmarks.trainer_memory CHECKPOINT FOLDER [--steps N] [--no-dry-run]

CHECKPOINT is what `theworld-validate synth --size 4b` writes. FOLDER gets samples (a picture, a clip of one latent
step, an answer), a config of four stages, what both commands printed, and `trainer-memory.json`: for each stage the
bytes measured by the allocator's own counter and the error in percent. It needs a GPU: on the CPU the training runs,
and nothing is compared.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.noise_samples import write_noise_samples
from theworld_validate.documents.compact_json import compact_json

NUM_SAMPLES = 8
WORDS = 40  # of an answer, at most; the picture and the clip are most of a row
# As the config of training has them: mixed precision, the levers on; and one stage without any.
STAGES: tuple[dict[str, Any], ...] = (
    {"name": "plain", "freeze": "projection", "precision": "bfloat16"},
    {"name": "projection", "freeze": "projection", "precision": "mixed", "gradient_checkpointing": True},
    {"name": "vision", "freeze": "vision", "precision": "mixed", "gradient_checkpointing": True, "chunked_loss": 256},
    {"name": "full", "freeze": "full", "precision": "bfloat16", "gradient_checkpointing": True, "chunked_loss": 256},
)
_SAID = re.compile(r"stage (\S+): ([\d.]+) GB allocated at the peak, ([+-][\d.]+)% of what was predicted")


def write_samples(folder: Path, *, image_side: int, frame_size: int) -> Path:
    """Samples whose answers differ in length."""
    last = NUM_SAMPLES - 1
    answers = [" ".join(["left", "right"][j % 2] for j in range(1 + i * (WORDS - 1) // last)) for i in range(last + 1)]
    words = [("which way?", answer) for answer in answers]
    return write_noise_samples(folder, words, image_side=image_side, frame_size=frame_size)


def write_config(checkpoint: Path, folder: Path, *, num_steps: int, frame_size: int) -> Path:
    """The config of all stages; each exports what it trained alone."""
    every = {"steps": num_steps, "learning_rate": 1e-5}
    values = {
        "model": str(checkpoint / "gemma"),
        "cosmos": str(checkpoint / "cosmos"),
        "world": {"frame_size": frame_size, "max_world_steps": 4},
        "data": {"path": str(folder / "samples.jsonl")},
        "output_dir": str(folder / "out"),
        "keep_checkpoints": 1,
        "save": "trainable",
        "logging": [],
        "stages": [{**every, **stage} for stage in STAGES],
    }
    file = folder / "train.json"
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return file


def read_peaks(printed: str) -> list[dict[str, Any]]:
    """What the training said of each stage's peak; a stage whose peak was not compared is not in it."""
    return [
        {"stage": name, "measured_gb": float(gigabytes), "measured_over_predicted_percent": float(percent)}
        for name, gigabytes, percent in _SAID.findall(printed)
    ]


def train(config: Path, log: Path, *options: str) -> str:
    """Run `theworld-train` in a process of its own, which prints into a file as it goes; return what it printed."""
    command = [sys.executable, "-m", "theworld.training", str(config), *options]
    with log.open("w", encoding="utf-8") as file:
        ended = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    printed = log.read_text(encoding="utf-8")
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {ended.returncode}:\n{printed}")
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--image-side", type=int, default=896)
    parser.add_argument("--frame-size", type=int, default=224)
    parser.add_argument("--no-dry-run", action="store_true", help="train at once; a stage predicts for itself")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    write_samples(options.folder, image_side=options.image_side, frame_size=options.frame_size)
    config = write_config(options.checkpoint, options.folder, num_steps=options.steps, frame_size=options.frame_size)
    commands: tuple[tuple[str, tuple[str, ...]], ...] = (("dry-run.txt", ("--dry-run",)), ("train.txt", ()))
    for name, arguments in commands[options.no_dry_run :]:
        printed = train(config, options.folder / name, *arguments)
        print(printed, flush=True)
    rows = read_peaks(printed)
    (options.folder / "trainer-memory.json").write_text(compact_json(rows), encoding="utf-8")
    print(f"{len(rows)} of {len(STAGES)} stages compared")


if __name__ == "__main__":
    main()
