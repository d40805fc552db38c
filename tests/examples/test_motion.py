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


@pytest.mark.parametrize("side", [16, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_the_clips_of_a_pair_hold_the_same_frames_and_end_with_the_same_one(kind: str, side: int) -> None:
    clips = _module("clips")
    for seed in range(40):
        pair = clips.make_pair(kind, seed, side=side)
        first, second = pair.clips
        assert pair.clips.shape == (2, 17, side, side, 3)
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
    assert np.load(tmp_path / "two" / world["path"]).shape == (17, 16, 16, 3)
    assert question["type"] == "text"
    seeds = {(split, seed): dataset.pair_seed(split, seed, 0) for split in ("train", "test") for seed in range(5)}
    assert len(set(seeds.values())) == len(seeds)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the example, as it is before training: FOLDER/gemma and FOLDER/cosmos."""
    folder = tmp_path_factory.mktemp("motion") / "model"
    _module("model").write_model(folder, _module("dataset").make_pairs("test", 2, 0))
    return folder


def test_an_untrained_model_answers_no_pair_without_its_clips(untrained: Path) -> None:
    dataset, evaluation = _module("dataset"), _module("evaluate")
    from theworld import TheWorld
    from theworld.processing_theworld import TheWorldProcessor

    model = TheWorld.from_pretrained(
        str(untrained / "gemma"), cosmos_model_name_or_path=str(untrained / "cosmos"), enable_world=True
    ).float()
    processor = TheWorldProcessor.from_pretrained(str(untrained / "gemma"), frame_size=16)
    pairs = dataset.make_pairs("test", 2, 0)
    table = evaluation.evaluate(model, processor, pairs)
    for control in ("text only", "one frame", "tokens zeroed"):
        assert set(table[control].values()) == {0.0}
    assert set(table) == {*evaluation.CONDITIONS, "image path", "greedy"}
    assert all(list(row) == list(KINDS) for row in table.values())


def test_latents_are_normalised_by_the_statistics_of_the_clips(untrained: Path) -> None:
    import torch

    from theworld.world_encoder import WorldEncoder, load_vae

    pairs = _module("dataset").make_pairs("test", 2, 0)
    frames = torch.from_numpy(np.concatenate([pair.clips for pair in pairs])).permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        latents = WorldEncoder(load_vae(str(untrained / "cosmos"), dtype=torch.float32))(frames)
    assert latents.shape == (20, 16, 5, 2, 2)
    assert latents.mean((0, 2, 3, 4)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3, 4)) - 1).abs().max() < 1e-3


def test_a_pair_counts_only_if_both_answers_are_right() -> None:
    evaluation = _module("evaluate")
    pairs = _module("dataset").make_pairs("test", 1, 0)
    right = [pair.answers for pair in pairs]
    assert evaluation._both_right(right, pairs) == [True] * 5
    assert evaluation._both_right([(a, a) for a, _ in right], pairs) == [False] * 5
    assert evaluation._both_right([(b, a) for a, b in right], pairs) == [False] * 5


def test_the_config_of_a_run_has_its_folder_and_shares_the_batch(tmp_path: Path) -> None:
    from theworld.training.config import read_config

    runner = _module("run")
    alone = read_config(runner.write_config(tmp_path, seed=3, processes=1))
    shared = read_config(runner.write_config(tmp_path, seed=3, processes=2))
    assert (alone.seed, alone.data.path, alone.data.group_size) == (3, str(tmp_path / "train.jsonl"), 2)
    assert [stage.batch_size for stage in alone.stages] == [2 * stage.batch_size for stage in shared.stages]
    assert [stage.freeze for stage in alone.stages] == ["language", "projection"]


def test_the_curve_is_read_from_what_training_wrote(tmp_path: Path) -> None:
    curve = _module("curve")
    stages = [{"name": "decoder", "folder": "stage-1-decoder"}, {"name": "projection", "folder": "stage-2-projection"}]
    (tmp_path / "run.json").write_text(json.dumps({"stages": stages}))
    for stage, losses in zip(stages, ([8.0, 1.0], [0.5]), strict=True):
        (tmp_path / stage["folder"]).mkdir()
        rows = [{"step": 10 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
        state = {"log_history": [*rows, {"step": 20, "train_runtime": 1.0}]}
        (tmp_path / stage["folder"] / "trainer_state.json").write_text(json.dumps(state))
    points = curve.read_curve(tmp_path)
    assert points == [("decoder", 10, 8.0), ("decoder", 20, 1.0), ("projection", 10, 0.5)]
    first, second = curve.show_curve(points).splitlines()
    assert first == "decoder      █▃  8.000 -> 1.000 in 20 steps"
    assert second == "projection   ▁  0.500 -> 0.500 in 10 steps"
    curve.write_figure(points, tmp_path / "curve.svg")
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_one_command_makes_trains_and_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """With two steps a stage and a pair of each kind: everything but the learning."""
    runner = _module("run")
    write = runner.write_config

    def write_short(folder: Path, **options: Any) -> Path:
        path = write(folder, **options)
        import yaml

        values = yaml.safe_load(path.read_text())
        values["logging"] = []
        for stage in values["stages"]:
            stage |= {"steps": 2, "warmup_steps": 0, "batch_size": 4}
        path.write_text(yaml.safe_dump(values))
        return path

    monkeypatch.setattr(runner, "write_config", write_short)
    folder = tmp_path / "new"
    arguments = [str(folder), "--pairs", "1", "--test-pairs", "1", "--processes", "1"]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(FOLDER))
    runner.main()
    shown = capfd.readouterr().out
    for text in ("The loss", "A pair of each kind", "clip b:", "image path", "greedy"):
        assert text in shown
    results = json.loads((folder / "results.json").read_text())
    assert results["paired_accuracy"]["text only"] == dict.fromkeys(KINDS, 0.0)
    assert (folder / "curve.svg").is_file()
    assert (folder / "pairs.png").is_file()
    with pytest.raises(SystemExit):
        runner.main()
    assert "already there and not an empty folder; name a new one" in capfd.readouterr().err
