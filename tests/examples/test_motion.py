"""The pairs of `examples/motion`: what no frame, and no set of frames, can tell."""

import hashlib
import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "motion"
KINDS = ("direction", "order", "faster", "exit", "count")


def _module(name: str) -> Any:
    """A script of the example, which imports its neighbours as a script does."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_clips_of_a_pair_hold_the_same_frames_and_end_with_the_same_one(kind: str, side: int) -> None:
    clips = _module("clips")
    for seed in range(40):
        pair = clips.make_pair(kind, seed, side=side)
        first, second = pair.clips
        assert pair.clips.shape == (2, 9, side, side, 3)
        assert pair.clips.dtype == np.uint8
        assert np.array_equal(first[-1], second[-1])
        assert Counter(frame.tobytes() for frame in first) == Counter(frame.tobytes() for frame in second)
        assert not np.array_equal(first, second)
        assert pair.answers[0] != pair.answers[1]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_balanced_also_given_the_last_frame_and_the_question(kind: str) -> None:
    clips = _module("clips")
    answers: dict[tuple[str, bytes], set[str]] = {}
    first_ones = []
    for seed in range(400):
        pair = clips.make_pair(kind, seed)
        first_ones.append(pair.answers[0] == min(pair.answers))
        for clip, answer in zip(pair.clips, pair.answers, strict=True):
            answers.setdefault((pair.question, clip[-1].tobytes()), set()).add(answer)
    assert all(len(both) > 1 for both in answers.values())
    assert 0.4 < np.mean(first_ones) < 0.6  # which clip comes first says nothing


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_all_of_a_pair(kind: str) -> None:
    clips = _module("clips")
    assert np.array_equal(clips.make_pair(kind, 7).clips, clips.make_pair(kind, 7).clips)
    assert not np.array_equal(clips.make_pair(kind, 7).clips, clips.make_pair(kind, 8).clips)


def test_the_first_tokens_of_a_pairs_answers_differ() -> None:
    clips = _module("clips")
    for kind in KINDS:
        for seed in range(40):
            first, second = clips.make_pair(kind, seed).answers
            assert first[0] != second[0]


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="no kind of question is named 'colour'"):
        _module("clips").make_pair("colour", 0)


def test_a_data_set_is_the_same_each_time_and_its_splits_share_no_pair(tmp_path: Path) -> None:
    dataset = _module("dataset")
    digests = []
    for name in ("one", "two"):
        path = dataset.write_dataset(tmp_path / name, "train", 2, 0)
        files = [path, *sorted((tmp_path / name / "train").iterdir())]
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 2 * 2 * len(KINDS)
    world, question = rows[0]["messages"][0]["content"]
    assert np.load(tmp_path / "two" / world["path"]).shape == (9, 32, 32, 3)
    assert question["type"] == "text"
    seeds = {(split, seed): dataset.pair_seed(split, seed, 0) for split in ("train", "test") for seed in range(5)}
    assert len(set(seeds.values())) == len(seeds)


def test_an_untrained_model_answers_no_pair_without_its_clips(tmp_path: Path) -> None:
    dataset, evaluation = _module("dataset"), _module("evaluate")
    from theworld import TheWorld
    from theworld.processing_theworld import TheWorldProcessor

    pairs = dataset.make_pairs("test", 2, 0)
    dataset.write_model(tmp_path / "model", pairs)
    model = TheWorld.from_pretrained(
        str(tmp_path / "model" / "gemma"),
        enable_world=True,
        cosmos_model_name_or_path=str(tmp_path / "model" / "cosmos"),
    )
    processor = TheWorldProcessor.from_pretrained(str(tmp_path / "model" / "gemma"), frame_size=32)
    table = evaluation.evaluate(model.float(), processor, pairs)
    for control in ("text only", "one frame", "tokens zeroed"):
        assert set(table[control].values()) == {0.0}
    assert set(table) == {"clips", "text only", "one frame", "tokens zeroed", "shuffled", "swapped", "greedy"}
    assert list(table["clips"]) == list(KINDS)
