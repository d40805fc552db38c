"""Latents from disk: the second epoch against the first, in pairs of runs of the tiny model, in float32.

Run from the repository's root: `python benchmarks/cached_latents.py 5`. Each pair is an epoch that fills the cache and
the same epoch on the full one. Prints JSON: seconds of training steps, their ratio, and whether the losses are the same
to the bit; exits with 1 if they are not, or if the median ratio is under 1.3.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.theworld.training.conftest import make, question, stage, write_lines
from theworld.synthetic import cached_checkpoint
from theworld.training import trainer
from theworld.training.config import TrainingConfig
from theworld.training.run import run
from theworld.training.stages import stage_folder

NUM_SAMPLES, NUM_FRAMES, SIDE = 12, 9, 64
GOAL = 1.3


def write_samples(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for i in range(NUM_SAMPLES):
        np.save(folder / f"{i}.npy", draw.integers(0, 256, (NUM_FRAMES, SIDE, SIDE, 3)).astype(np.uint8))
    rows = [
        question({"type": "world", "path": f"{i}.npy"}, answer=["left", "right"][i % 2]) for i in range(NUM_SAMPLES)
    ]
    write_lines(folder / "samples.jsonl", rows)


def train(config: TrainingConfig) -> tuple[float, list[float]]:
    """Run a config; return the seconds between its first and its last step, and the losses."""
    moments: list[float] = []
    step = trainer.StageTrainer.training_step

    def timed(self: Any, *arguments: Any) -> Any:
        loss = step(self, *arguments)
        moments.append(time.perf_counter())
        return loss

    prepare = trainer.StageTrainer._prepare_inputs

    def begun(self: Any, inputs: Any) -> Any:
        moments.append(time.perf_counter())
        return prepare(self, inputs)

    trainer.StageTrainer.training_step, trainer.StageTrainer._prepare_inputs = timed, begun  # type: ignore[method-assign]
    try:
        run(config)
    finally:
        trainer.StageTrainer.training_step, trainer.StageTrainer._prepare_inputs = step, prepare  # type: ignore[method-assign]
    state = json.loads((stage_folder(config, 0) / "trainer_state.json").read_text())
    return moments[-1] - moments[0], [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def main(pairs: int) -> int:
    tiny, ratios, same = cached_checkpoint("tiny"), [], True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_samples(folder)
        values = {
            "model": str(tiny.gemma),
            "cosmos": str(tiny.cosmos),
            "world": {"frame_size": SIDE, "max_world_steps": 4},
            "data": {"path": str(folder / "samples.jsonl")},
            "log_every_steps": 1,
            "logging": [],
            "stages": [stage(steps=NUM_SAMPLES // 2)],
        }
        for number in range(pairs):
            cache = str(folder / f"cache-{number}")
            first, second = (
                train(make(values, latents_cache=cache, output_dir=str(folder / f"{which}-{number}")))
                for which in ("first", "second")
            )
            ratios.append(first[0] / second[0])
            same = same and first[1] == second[1]
            said = {"first_seconds": first[0], "second_seconds": second[0], "ratio": ratios[-1], "same_losses": same}
            print(json.dumps(said), flush=True)
    print(json.dumps({"pairs": pairs, "median_ratio": statistics.median(ratios), "goal": GOAL, "same_losses": same}))
    return int(not same or statistics.median(ratios) < GOAL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
