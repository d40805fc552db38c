"""The example from one end to the other: make pairs and a model, train it in stages, ask it about unseen pairs.

In: a new folder. Out, in it: the data, the untrained and the trained model, curve.svg, pairs.png and results.json; on
the screen: the learning curve, a pair of each kind with what the model says, and paired accuracy with its controls.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from clips import FRAMES_A_VIEW, KINDS, SIDE, Pair
from dataset import make_pairs, write_dataset

HERE = Path(__file__).parent
_PAIRS_FOR_STATISTICS = 20


def write_config(folder: Path, *, seed: int, processes: int) -> Path:
    """Write FOLDER/config.yaml: the example's own, with FOLDER's paths, and the batch shared by the processes."""
    config = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))
    config |= {
        "model": str(folder / "model" / "gemma"),
        "cosmos": str(folder / "model" / "cosmos"),
        "data": config["data"] | {"path": str(folder / "train.jsonl")},
        "output_dir": str(folder / "trained"),
        "latents_cache": str(folder / "latents"),
        "seed": seed,
    }
    for stage in config["stages"]:
        stage["batch_size"] //= processes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def training_command(config: Path, processes: int) -> list[str]:
    """What trains: `theworld-train`, or the same on several processes of the CPU."""
    if processes == 1:
        return [sys.executable, "-m", "theworld.training", str(config)]
    # With --cpu the launcher starts one process only, whatever it is asked; without GPUs, --multi_gpu is gloo.
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    settled = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*launcher, *settled, "-m", "theworld.training", str(config)]


def show_pairs(pairs: Sequence[Pair], said: Sequence[tuple[str, str]]) -> str:
    """A line a pair: the question, and for both clips what was said and whether it is right."""
    lines = []
    for pair, chosen in zip(pairs, said, strict=True):
        answers = [
            f"{word} ({'right' if word == truth else f'wrong: {truth}'})"
            for word, truth in zip(chosen, pair.answers, strict=True)
        ]
        lines.append(f"{pair.kind:10} {pair.question:30} clip a: {answers[0]:22} clip b: {answers[1]}")
    return "\n".join(lines)


def draw_pairs(pairs: Sequence[Pair], said: Sequence[tuple[str, str]], path: Path) -> None:
    """Write a picture with the views of both clips of each pair, a row a clip, and what was said to it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.7 * len(pairs)), layout="constrained")
    for part, pair, chosen in zip(figure.subfigures(len(pairs), 1, squeeze=False)[:, 0], pairs, said, strict=True):
        part.suptitle(f"{pair.kind} - {pair.question}", fontsize=9)
        for axes, clip, word, truth in zip(part.subplots(2, 1), pair.clips, chosen, pair.answers, strict=True):
            views = [np.pad(view, ((1, 1), (1, 1), (0, 0)), constant_values=255) for view in clip[::FRAMES_A_VIEW]]
            axes.imshow(np.concatenate(views, axis=1))
            axes.set(xticks=[], yticks=[])
            axes.set_ylabel(word, color="black" if word == truth else "red", rotation=0, ha="right", va="center")
            axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=100)


def train(folder: Path, *, pairs: int, seed: int, processes: int) -> tuple[Path, dict[str, float]]:
    """Make everything and train; return the last stage's model, and the seconds that training took."""
    from model import write_model

    write_dataset(folder, "train", pairs, seed)
    write_model(folder / "model", make_pairs("train", _PAIRS_FOR_STATISTICS, seed), seed=seed)
    config = write_config(folder, seed=seed, processes=processes)
    print(f"{2 * pairs * len(KINDS)} clips and the untrained model are in {folder}; now training", file=sys.stderr)
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if processes > 1 else None
    begun, before = time.monotonic(), os.times()
    ended = subprocess.run(training_command(config, processes), check=False, env=environment)
    if ended.returncode:
        raise SystemExit(ended.returncode)
    after = os.times()
    seconds = {
        "wall_seconds": time.monotonic() - begun,
        "cpu_seconds": after.children_user + after.children_system - before.children_user - before.children_system,
    }
    last = json.loads((folder / "trained" / "run.json").read_text(encoding="utf-8"))["stages"][-1]["folder"]
    return folder / "trained" / last / "model", seconds


def ask(checkpoint: Path, *, test_pairs: int, seed: int, picture: Path) -> dict[str, dict[str, float]]:
    """Show a pair of each kind and the table; return the table."""
    from evaluate import choose, evaluate, load, show

    model, processor = load(checkpoint)
    unseen = make_pairs("test", test_pairs, seed, side=SIDE)
    shown = unseen[::test_pairs]
    said = choose(model, processor, shown, [clip for pair in shown for clip in pair.clips])
    draw_pairs(shown, said, picture)
    print(f"\nA pair of each kind ({picture} shows them):\n{show_pairs(shown, said)}")
    table = evaluate(model, processor, unseen, seed=seed)
    print(f"\nBoth clips of a pair answered rightly, {test_pairs} unseen pairs of each kind:\n{show(table)}")
    return table


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description="Make pairs of clips, train the tiny model, ask about unseen pairs.")
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--pairs", type=int, default=400, help="of each kind, to train on")
    parser.add_argument("--test-pairs", type=int, default=100, help="of each kind, unseen")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs, the model and the training")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2, help="that share each batch")
    options = parser.parse_args()
    folder: Path = options.output
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        parser.error(f"{folder}: already there and not an empty folder; name a new one")
    checkpoint, seconds = train(folder, pairs=options.pairs, seed=options.seed, processes=options.processes)
    from curve import read_curve, show_curve, write_figure

    points = read_curve(folder / "trained")
    write_figure(points, folder / "curve.svg")
    print(f"\nThe loss ({folder / 'curve.svg'} shows it):\n{show_curve(points)}")
    print(f"training took {seconds['wall_seconds']:.0f} s, {seconds['cpu_seconds']:.0f} s of the processor")
    table = ask(checkpoint, test_pairs=options.test_pairs, seed=options.seed, picture=folder / "pairs.png")
    results: dict[str, Any] = {"seed": options.seed, "pairs": options.pairs, "paired_accuracy": table, **seconds}
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
