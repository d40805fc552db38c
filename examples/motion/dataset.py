"""A data set of minimal pairs, in the form that `theworld-train` reads.

In: a folder, a split and a seed. Out: FOLDER/SPLIT.jsonl, a line of messages for each clip, and FOLDER/SPLIT/*.npy,
uint8. The same arguments give the same bytes.
"""

import json
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


def question_of(pair: Pair, clip: str) -> dict[str, Any]:
    """The user's turn: the path of a clip, and the question."""
    return {"role": "user", "content": [{"type": "world", "path": clip}, {"type": "text", "text": pair.question}]}


def answer_of(answer: str) -> dict[str, Any]:
    """The assistant's turn."""
    return {"role": "assistant", "content": [{"type": "text", "text": answer}]}
