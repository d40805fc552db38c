"""A run that is killed and continued ends with the very weights of the one that was never interrupted."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.theworld.training.conftest import make, stage, write_config
from tests.theworld.training.processes import kill_until_finished, start, train
from theworld.training import checkpoint as files
from theworld.training.config import ConfigError, TrainingConfig
from theworld.training.optimizer import RateError
from theworld.training.run import _check_same, _write_run, run
from theworld.training.stages import EXPORT, stage_folder

STAGES = [
    stage(steps=9, schedule="cosine", warmup_steps=2),
    stage("language", steps=4, freeze="language", learning_rate=1e-4, gradient_accumulation_steps=2),
]


def weights(config: TrainingConfig, number: int = -1) -> dict[str, torch.Tensor]:
    number = number % len(config.stages)
    return load_file(stage_folder(config, number) / EXPORT / "model.safetensors")


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, tiny: Any, data: Path) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing interrupts."""
    from tests.theworld.training import conftest

    folder = tmp_path_factory.mktemp("whole")
    values = conftest.values.__wrapped__(tiny, data, folder) | {"stages": STAGES, "save_every_steps": 2}  # type: ignore[attr-defined]
    process = start(write_config(folder / "config.json", values), folder / "said")
    process.join(300)
    assert process.exitcode == 0, (folder / "said").read_text()
    return weights(make(values))


def test_kills_at_random_moments_change_no_bit(
    values: dict[str, Any], whole_run: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    values |= {"stages": STAGES, "save_every_steps": 2}
    killed = resumed = number = 0
    while killed < 10:
        values["output_dir"] = str(tmp_path / f"out-{number}")
        config, said = write_config(tmp_path / "config.json", values), tmp_path / f"said-{number}"
        killed += kill_until_finished(config, said, seed=number, longest=2.0, most=10 - killed)
        assert_same(weights(make(values)), whole_run)
        resumed, number = resumed + said.read_text().count("goes on from"), number + 1
    assert resumed > 0


def _killed_while_saving(config: str, said: str) -> None:
    """Die in the middle of the third checkpoint, after its weights are written."""
    write, count = files.write_tensors, [0]

    def write_and_die(tensors: Any, path: Path, *rest: Any) -> None:
        write(tensors, path, *rest)
        count[0] += path.name == files.WEIGHTS
        if count[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    files.write_tensors = write_and_die
    train(config, said)


def _killed_before_the_rename(config: str, said: str) -> None:
    def die(target: Path) -> None:
        if target.name in ("checkpoint-00000004", EXPORT):
            os.kill(os.getpid(), signal.SIGKILL)
        publish(target)

    publish, files.publish = files.publish, die
    train(config, said)


@pytest.mark.parametrize("way", [_killed_while_saving, _killed_before_the_rename])
def test_a_kill_while_saving_leaves_the_checkpoint_before_it_whole(
    values: dict[str, Any], whole_run: dict[str, torch.Tensor], tmp_path: Path, way: Any
) -> None:
    values |= {"stages": STAGES, "save_every_steps": 2}
    path, config = write_config(tmp_path / "config.json", values), make(values)
    process = start(path, tmp_path / "said", way)
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    folder = stage_folder(config, 0)
    assert list(folder.glob(".saving-*"))
    assert files.checkpoints(folder)
    process = start(path, tmp_path / "said")
    process.join(300)
    assert process.exitcode == 0
    assert not list(folder.glob(".saving-*"))
    assert_same(weights(config), whole_run)


def test_a_checkpoint_that_was_cut_is_passed_over(values: dict[str, Any]) -> None:
    config = make(values, save_every_steps=2, stages=[stage(steps=4)])
    run(config)
    folder = stage_folder(config, 0)
    newest = files.checkpoints(folder)[-1]
    with (newest / files.WEIGHTS).open("r+b") as file:
        file.truncate(100)
    assert [path.name for path in files.checkpoints(folder)] == ["checkpoint-00000002"]
    (newest / files.MANIFEST).unlink()
    assert [path.name for path in files.checkpoints(folder)] == ["checkpoint-00000002"]


def _empty_tensors() -> bytes:
    from safetensors.torch import save

    return save({})


def _edit(path: Path, change: Any) -> None:
    progress = json.loads((path / files.PROGRESS).read_text())
    change(progress)
    (path / files.PROGRESS).write_text(json.dumps(progress))


def _edit_state(path: Path) -> None:
    state = json.loads((path / "trainer_state.json").read_text())
    (path / "trainer_state.json").write_text(json.dumps(state | {"global_step": 3}))


def _replace_by_zeros(path: Path) -> None:
    files.write_tensors({name: torch.zeros_like(tensor) for name, tensor in load_file(path).items()}, path)


FORGETS = {
    "optimizer": lambda path: (path / files.OPTIMIZER).write_bytes(_empty_tensors()),
    "schedule": lambda path: _edit(
        path,
        lambda progress: progress["schedule"].update(
            last_epoch=0, _last_lr=[5e-4] * len(progress["schedule"]["_last_lr"])
        ),
    ),
    "weights": lambda path: _replace_by_zeros(path / files.WEIGHTS),
    "position": _edit_state,
}


@pytest.mark.parametrize("what", [None, *FORGETS])
def test_each_part_of_a_checkpoint_matters(
    values: dict[str, Any], tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture, what: str | None
) -> None:
    """In the middle of the second epoch; with one part spoilt, the end is another."""
    stages = [stage(steps=12, schedule="linear", warmup_steps=3)]
    whole = make(values, stages=stages, output_dir=str(data.parent / "whole"), save_every_steps=8, keep_checkpoints=9)
    run(whole)  # once: the next time it is finished
    config = make(values, stages=stages, output_dir=str(tmp_path / "cut"), save_every_steps=8, keep_checkpoints=9)
    folder = stage_folder(config, 0)
    kept = files.start_writing(folder / "checkpoint-00000008")
    for path in (stage_folder(whole, 0) / "checkpoint-00000008").iterdir():
        if path.name != files.MANIFEST:
            (kept / path.name).write_bytes(path.read_bytes())
    if what is not None:
        FORGETS[what](kept)
    files.note_sizes(kept)
    files.publish(folder / "checkpoint-00000008")
    caplog.set_level("INFO", "theworld.training")
    if what == "schedule":
        with pytest.raises(RateError, match=r"was asked for (world|temporal)_"):
            run(config)
        return
    run(config)
    assert "goes on from" in caplog.text
    same = all(torch.equal(a, weights(whole)[name]) for name, a in weights(config).items())
    assert same == (what is None)


def test_a_finished_run_does_nothing_more_and_from_scratch_begins_anew(values: dict[str, Any]) -> None:
    config = make(values)
    run(config)
    folder = stage_folder(config, 0)
    before = (folder / EXPORT / "model.safetensors").stat().st_mtime_ns
    stranger = Path(config.output_dir, "notes.txt")
    stranger.write_text("mine")
    with pytest.raises(ValueError, match="nowhere"):  # nothing is removed for a run that cannot begin
        run(make(values, model="/nowhere"), from_scratch=True)
    with pytest.raises(ConfigError, match=r"model: .* is in .*, which --from-scratch removes; copy it elsewhere"):
        run(make(values, model=str(folder / EXPORT)), from_scratch=True)
    run(config)
    assert (folder / EXPORT / "model.safetensors").stat().st_mtime_ns == before
    (Path(config.output_dir) / "run.json").rename(Path(config.output_dir) / "kept.json")
    with pytest.raises(ConfigError, match=r"no run.json that says whose it is; remove it"):
        run(config, from_scratch=True)
    (Path(config.output_dir) / "kept.json").rename(Path(config.output_dir) / "run.json")
    run(config, from_scratch=True)
    assert (folder / EXPORT / "model.safetensors").stat().st_mtime_ns > before
    assert stranger.read_text() == "mine"
    assert json.loads(Path(config.output_dir, "run.json").read_text())["stages"][0]["finished"] is True


def test_a_run_that_was_begun_with_another_config_is_refused(values: dict[str, Any]) -> None:
    run(make(values))
    with pytest.raises(ConfigError, match=r"was begun with another stages\.0\.learning_rate; restore it"):
        run(make(values, stages=[stage(learning_rate=1e-2)]))
    with pytest.raises(ConfigError, match="was begun with another seed"):
        run(make(values, seed=1))
    run(make(values, log_every_steps=3))
    run(make(values, stages=[stage(), stage("second", steps=1)]))
    assert (stage_folder(make(values, stages=[stage(), stage("second")]), 1) / EXPORT).is_dir()


def test_a_stage_that_was_begun_binds_those_before_it_too(values: dict[str, Any]) -> None:
    """Also where the folder of the first was removed, to have its room."""
    two = [stage(), stage("second", steps=1)]
    config = make(values, stages=two)
    _write_run(config, done=1)
    (stage_folder(config, 1) / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"was begun with another stages\.1\.learning_rate"):
        run(make(values, stages=[two[0], stage("second", steps=1, learning_rate=1e-2)]))


def test_a_run_of_which_nothing_was_begun_binds_nothing(values: dict[str, Any]) -> None:
    config = make(values)
    _write_run(make(values, model="/nowhere", seed=1), done=0)
    before = json.loads(Path(config.output_dir, "run.json").read_text())
    with pytest.raises(ValueError, match="missing"):
        run(make(values, data={"path": "/nowhere.jsonl"}))
    assert json.loads(Path(config.output_dir, "run.json").read_text()) == before
    _check_same(config, make(values, model="/nowhere", seed=1))
    (stage_folder(config, 0) / "checkpoint-00000001").mkdir(parents=True)
    with pytest.raises(ConfigError, match="was begun with another model"):
        _check_same(config, make(values, model="/nowhere", seed=1))


def test_what_lies_in_the_folder_is_neither_waited_for_nor_followed(values: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(values["output_dir"])
    folder.mkdir()
    (folder / ".run.json").symlink_to(tmp_path / "victim")
    _write_run(make(values), done=0)
    assert not (tmp_path / "victim").exists()
    for spoil in (os.mkfifo, lambda path: path.write_text("[" * 100_000), lambda path: path.mkdir()):
        (folder / "run.json").unlink()
        spoil(folder / "run.json")
        with pytest.raises(ConfigError, match=r"run\.json: cannot be read; restore it"):
            run(make(values))
