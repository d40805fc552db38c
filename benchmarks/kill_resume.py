"""Kill a run N times at random moments, continue it each time, and compare its end with one never interrupted.

Run from the repository's root: `python benchmarks/kill_resume.py 100`. Each round is a run of two stages, killed up to
eight times. Prints how many kills there were, and exits with 1 if one bit of the final weights differs.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from tests.theworld.training.conftest import NUM_SAMPLES, question, stage, write_config, write_lines
from tests.theworld.training.processes import kill_until_finished, start
from theworld.synthetic import cached_checkpoint

STAGES = [
    stage(steps=7, schedule="cosine", warmup_steps=2),  # six steps are an epoch
    stage("language", steps=2, freeze="language", learning_rate=1e-4, gradient_accumulation_steps=2),
]

KILLS_A_ROUND = 8


def write_run(folder: Path, name: str) -> Path:
    tiny = cached_checkpoint("tiny")
    values = {
        "model": str(tiny.gemma),
        "cosmos": str(tiny.cosmos),
        "world": {"frame_size": 32, "max_world_steps": 4},
        "data": {"path": str(folder / "samples.jsonl")},
        "output_dir": str(folder / name),
        "log_every_steps": 1,
        "logging": [],
        "save_every_steps": 1,
        "stages": STAGES,
    }
    return write_config(folder / f"{name}.json", values)


def final(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / name / "stage-2-language" / "model" / "model.safetensors")


def main(kills: int) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw = np.random.default_rng(0)
        rows = []
        for i in range(NUM_SAMPLES):
            np.save(folder / f"{i}.npy", draw.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8))
            items = [{"type": "world", "path": f"{i}.npy"}] if i % 3 else []
            rows.append(question(*items, answer=["left", "right, then up"][i % 2]))
        write_lines(folder / "samples.jsonl", rows)
        process = start(write_run(folder, "whole"), folder / "said")
        process.join()
        expected, killed, rounds, differ, resumed = final(folder, "whole"), 0, 0, 0, 0
        while killed < kills:
            config = write_run(folder, f"round-{rounds}")
            killed += kill_until_finished(
                config, folder / f"said-{rounds}", seed=rounds, longest=5.0, most=min(KILLS_A_ROUND, kills - killed)
            )
            found = final(folder, f"round-{rounds}")
            same = found.keys() == expected.keys() and all(torch.equal(found[n], expected[n]) for n in expected)
            rounds, differ = rounds + 1, differ + (not same)
            resumed += (folder / f"said-{rounds - 1}").read_text().count("goes on from")
            said = {
                "rounds": rounds,
                "kills": killed,
                "went_on_from_a_checkpoint": resumed,
                "rounds_that_differ": differ,
            }
            print(json.dumps(said), flush=True)
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
