"""Kill a run N times at random moments, continue it each time, and compare its end with one never interrupted.

Run from the repository's root: `python benchmarks/kill_resume.py 100 --record kills.jsonl`. Each round is a run of two
stages, killed up to eight times. The record gets a line when a round ends; the same command goes on from it, so that
the kills may be had in parts. Prints the sums, and exits with 1 if one bit of the final weights differs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
LONGEST = 5.0  # seconds within which a process is killed, after its checkpoints, or its start


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A run that was killed and continued until it was finished.

    Args:
        number: the seed of its moments.
        kills: how often it was killed.
        resumes: how often it went on from a checkpoint; the other kills came before the first one.
        is_equal: whether all bits of its final weights are those of the run that was never interrupted.
    """

    number: int
    kills: int
    resumes: int
    is_equal: bool


def read_record(path: Path | None) -> list[Round]:
    """The rounds that were run before."""
    if path is None or not path.exists():
        return []
    return [Round(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def sums(rounds: Sequence[Round]) -> dict[str, int]:
    """What is printed."""
    return {
        "rounds": len(rounds),
        "kills": sum(one.kills for one in rounds),
        "went_on_from_a_checkpoint": sum(one.resumes for one in rounds),
        "rounds_that_differ": sum(not one.is_equal for one in rounds),
    }


def write_samples(folder: Path) -> None:
    """Write the samples that all rounds share."""
    draw = np.random.default_rng(0)
    rows = []
    for i in range(NUM_SAMPLES):
        np.save(folder / f"{i}.npy", draw.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8))
        items = [{"type": "world", "path": f"{i}.npy"}] if i % 3 else []
        rows.append(question(*items, answer=["left", "right, then up"][i % 2]))
    write_lines(folder / "samples.jsonl", rows)


def run_round(folder: Path, number: int, most: int, expected: dict[str, torch.Tensor]) -> Round:
    """Run one round of at most so many kills."""
    name, said = f"round-{number}", folder / f"said-{number}"
    kills = kill_until_finished(write_run(folder, name), said, seed=number, longest=LONGEST, most=most)
    found = final(folder, name)
    is_equal = found.keys() == expected.keys() and all(torch.equal(found[n], expected[n]) for n in expected)
    resumes = said.read_text(encoding="utf-8").count("goes on from")
    return Round(number=number, kills=kills, resumes=resumes, is_equal=is_equal)


def main(kills: int, record: Path | None = None) -> int:
    """Run rounds until there are so many kills, those of the record among them."""
    rounds = read_record(record)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_samples(folder)
        start(write_run(folder, "whole"), folder / "said").join()
        expected = final(folder, "whole")
        while (missing := kills - sums(rounds)["kills"]) > 0:
            rounds.append(run_round(folder, len(rounds), min(KILLS_A_ROUND, missing), expected))
            if record is not None:
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(rounds[-1])) + "\n")
            print(json.dumps(sums(rounds)), flush=True)
    return int(sums(rounds)["rounds_that_differ"] > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill runs at random moments, and compare how they end.")
    parser.add_argument("kills", type=int, help="in all")
    parser.add_argument("--record", type=Path, help="a file that keeps the rounds; the same command goes on from it")
    options = parser.parse_args()
    sys.exit(main(options.kills, options.record))
