"""A data set of minimal pairs, in the form that `theworld-train` reads, and the model that it is learnt with.

In: a folder, a split and a seed. Out: FOLDER/SPLIT.jsonl, a line of messages for each clip, and FOLDER/SPLIT/*.npy,
uint8; for `prepare` also FOLDER/model/gemma and FOLDER/model/cosmos. The same arguments give the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from clips import KINDS, SIDE, Pair, make_pair

SPLITS = ("train", "test")
_SEEDS_A_SPLIT = 1_000_000  # so that no seed of a pair is in two splits


def pair_seed(split: str, seed: int, number: int) -> int:
    """The seed of a split's pair; splits and seeds share none."""
    return (seed * len(SPLITS) + SPLITS.index(split)) * _SEEDS_A_SPLIT + number


def make_pairs(split: str, num_pairs: int, seed: int, *, side: int = SIDE) -> list[Pair]:
    """Make `num_pairs` pairs of each kind, kind by kind."""
    return [make_pair(kind, pair_seed(split, seed, i), side=side) for kind in KINDS for i in range(num_pairs)]


def write_dataset(folder: Path, split: str, num_pairs: int, seed: int, *, side: int = SIDE) -> Path:
    """Write a split: `num_pairs` pairs of each kind, both clips of a pair one after the other.

    Returns:
        The JSONL file.
    """
    (folder / split).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, pair in enumerate(make_pairs(split, num_pairs, seed, side=side)):
        for clip, answer, letter in zip(pair.clips, pair.answers, "ab", strict=True):
            name = f"{split}/{number:05d}{letter}.npy"
            np.save(folder / name, clip)
            row = {"messages": [question_of(pair, name), answer_of(answer)], "kind": pair.kind, "pair": number}
            lines.append(json.dumps(row))
    path = folder / f"{split}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def question_of(pair: Pair, clip: str | None) -> dict[str, Any]:
    """The user's turn, with the path of a clip, or without one."""
    world = [] if clip is None else [{"type": "world", "path": clip}]
    return {"role": "user", "content": [*world, {"type": "text", "text": pair.question}]}


def answer_of(answer: str) -> dict[str, Any]:
    """The assistant's turn."""
    return {"role": "assistant", "content": [{"type": "text", "text": answer}]}


def write_model(folder: Path, pairs: list[Pair], *, seed: int = 0) -> None:
    """Write the tiny model with random weights, and give its VAE the statistics of its own latents.

    A released VAE comes with the mean and the deviation of each latent channel over its training clips, by which
    latents are normalised. A random one comes with a real one's, which do not fit it: its latents would vary by 0.09
    around a constant, and learning takes about twice as long.
    """
    import torch

    from theworld.synthetic import write_checkpoint
    from theworld.world_encoder import load_vae

    checkpoint = write_checkpoint("tiny", folder, seed=seed)
    vae = load_vae(str(checkpoint.cosmos), dtype=torch.float32)
    frames = torch.from_numpy(np.concatenate([pair.clips for pair in pairs])).permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        latents = torch.cat([vae.encode(some).latent_dist.mode() for some in frames.split(16)])
    path = checkpoint.cosmos / "vae" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["latents_mean"] = latents.mean((0, 2, 3, 4)).tolist()
    config["latents_std"] = latents.std((0, 2, 3, 4)).tolist()
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write the training split and the model."""
    parser = argparse.ArgumentParser(description="Write the clips and the untrained model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=400, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=SIDE, help="of a frame, in pixels")
    options = parser.parse_args()
    path = write_dataset(options.folder, "train", options.pairs, options.seed, side=options.side)
    print(f"{path}: {2 * options.pairs * len(KINDS)} clips", file=sys.stderr)
    write_model(options.folder / "model", make_pairs("train", 20, options.seed, side=options.side))
    print(f"{options.folder / 'model'}: gemma, cosmos", file=sys.stderr)


if __name__ == "__main__":
    main()
