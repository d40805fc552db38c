"""Two processes and one have the same losses; sharded or not, a run resumes to the bit."""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import load_world
from tests.theworld.test_distributed import free_port
from tests.theworld.training import conftest
from tests.theworld.training.conftest import make, stage, write_config, write_lines
from tests.theworld.training.test_trainer import RATES, history
from theworld.components import parameters_by_component
from theworld.synthetic import SyntheticCheckpoint
from theworld.training import checkpoint as files
from theworld.training.config import TrainingConfig
from theworld.training.run import run
from theworld.training.stages import EXPORT, load_model, stage_folder
from theworld_validate import Status, Subject, check_parity
from theworld_validate.audits.drift import check_drift
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET

SCRIPT = Path(__file__).parent / "one_of_many.py"
KEPT = Path("stage-1-projection", "checkpoint-00000007")
TOLERANCE = 1e-6  # relative, of a loss in float32
NORM_TOLERANCE = 1e-5  # relative, of a gradient's norm


def stages(batch_size: int, **lever: Any) -> list[dict[str, Any]]:
    """An epoch is six steps; the lever is pulled in the stage that trains the head."""
    return [
        stage(steps=8, batch_size=batch_size),
        stage("vision", steps=2, freeze="vision", batch_size=batch_size, gradient_accumulation_steps=2),
        stage("language", steps=2, freeze="language", batch_size=batch_size, learning_rate=RATES, **lever),
    ]


def run_two(way: str, config: Path) -> None:
    codes, said = end_two(way, config)
    assert codes == [0, 0], "\n".join(text[-3000:] for text in said)


def end_two(way: str, config: Path) -> tuple[list[int], list[str]]:
    command = [sys.executable, str(SCRIPT), way]
    port = str(free_port())
    both = [
        subprocess.Popen([*command, str(rank), port, str(config)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    return [process.returncode for process in both], said


Values = dict[str, Any]


@pytest.fixture(scope="module")
def shared(tiny: SyntheticCheckpoint, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Values:
    """A config whose output folders every test of this module may read."""
    folder = tmp_path_factory.mktemp("shared")
    return conftest.values.__wrapped__(tiny, data, folder) | {"folder": folder}  # type: ignore[attr-defined]


def of(shared: Values, name: str, **fields: Any) -> Values:
    values = {**shared, "stages": stages(1, chunked_loss=3), "output_dir": str(shared["folder"] / name), **fields}
    return {key: value for key, value in values.items() if key != "folder"}


@pytest.fixture(scope="module")
def one(shared: Values) -> TrainingConfig:
    """The run of one process that the others are held against."""
    config = make(of(shared, "one", stages=stages(2)))
    run(config)
    return config


@pytest.fixture(scope="module")
def two(shared: Values) -> Callable[[str], TrainingConfig]:
    """The run of two processes, in either way."""

    @functools.cache
    def trained(way: str) -> TrainingConfig:
        values = of(shared, way, save_every_steps=7)
        run_two(way, write_config(shared["folder"] / f"{way}.json", values))
        return make(values)

    return trained


Two = Callable[[str], TrainingConfig]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(
    one: TrainingConfig, two: Two, tiny: SyntheticCheckpoint, way: str
) -> None:
    """In the last stage they compute the loss in pieces, and the one does not."""
    for number in range(3):
        expected, found = (history(config, number) for config in (one, two(way)))
        losses, norms = ([[e[key] for e in entries] for entries in (found, expected)] for key in ("loss", "grad_norm"))
        assert losses[0] == pytest.approx(losses[1], rel=TOLERANCE)
        assert norms[0] == pytest.approx(norms[1], rel=NORM_TOLERANCE)

    # Frozen parts keep their bits, stage by stage.
    before = load_world(tiny).state_dict()
    components = parameters_by_component(load_world(tiny))
    for number in (1, 2):
        after = load_model(two(way), number).state_dict()
        moved = {name for name, ps in components.items() if any(not torch.equal(before[p], after[p]) for p in ps)}
        assert moved == set(two(way).stages[number - 1].freeze_config.trainable)
        before = {name: tensor.clone() for name, tensor in after.items()}


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_resume_to_the_bit(shared: Values, two: Two, way: str) -> None:
    """Continued in the second epoch, with latents from the cache, all three stages end in the same bits."""
    cache = shared["folder"] / f"{way}-cache"
    values = of(shared, f"{way}-again", save_every_steps=7, latents_cache=str(cache))
    shutil.copytree(Path(two(way).output_dir, KEPT), Path(values["output_dir"], KEPT))
    run_two(way, write_config(shared["folder"] / f"{way}-again.json", values))
    again = make(values)
    assert [entry["loss"] for entry in history(again)] == [entry["loss"] for entry in history(two(way))]
    for number in range(3):
        found, expected = (
            load_file(stage_folder(config, number) / EXPORT / "model.safetensors") for config in (again, two(way))
        )
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert list(cache.iterdir())


def test_a_checkpoint_of_two_processes_goes_on_in_one(shared: Values, one: TrainingConfig, two: Two) -> None:
    """Its tensors are whole: the losses after it are those of one process within the bound."""
    mixed = make(of(shared, "mixed", stages=stages(2)[:1]))
    shutil.copytree(Path(two("fsdp").output_dir, KEPT), Path(mixed.output_dir, KEPT))
    run(mixed)
    assert history(mixed)[-1]["loss"] == pytest.approx(history(one)[-1]["loss"], rel=TOLERANCE)
    assert files.checkpoints(stage_folder(mixed, 0))[-1].name == "checkpoint-00000008"


def test_what_was_trained_in_shards_passes_parity_and_drift(two: Two, tiny: SyntheticCheckpoint) -> None:
    """With the branch off it is Gemma 3, as long as the branch alone was trained; of the stages, each moved its own."""
    first, second, last = (str(stage_folder(two("fsdp"), number) / EXPORT) for number in range(3))
    sides = [Subject(target=name, checkpoint=first, dtype="float32") for name in (REFERENCE_TARGET, CANDIDATE_TARGET)]
    checks = check_parity(*sides, probes=("text",))
    assert {check.id: check.status for check in checks if check.status is not Status.PASSED} == {}
    assert check_drift(str(tiny.gemma), first, cosmos=str(tiny.cosmos)).status is Status.PASSED
    assert check_drift(first, second).status is Status.PASSED
    whole = check_drift(str(tiny.gemma), last, cosmos=str(tiny.cosmos))
    assert {finding.code for finding in whole.findings} == {"drift.frozen_moved"}  # the stage before had vision


def test_a_loss_divided_by_each_processes_own_tokens_is_another(values: dict[str, Any], tmp_path: Path) -> None:
    """The comparison with one process sees it."""
    one = make(values, stages=[stage(steps=6, batch_size=2)], output_dir=str(tmp_path / "one"))
    run(one)
    values |= {"stages": [stage(steps=6, batch_size=1)]}
    run_two("alone", write_config(tmp_path / "two.json", values))
    found, expected = ([entry["loss"] for entry in history(config)] for config in (make(values), one))
    assert found != pytest.approx(expected, rel=1e-3)


def test_pictures_on_one_process_alone_end_a_sharded_run(values: dict[str, Any], data: Path, tmp_path: Path) -> None:
    """Without the check, the processes wait for each other for ever."""
    first, second = data.read_text().splitlines()[:2]
    bare = json.loads(second)
    bare["messages"][0]["content"] = bare["messages"][0]["content"][1:]
    values["data"] = {"path": str(write_lines(tmp_path / "mixed.jsonl", [json.loads(first), bare]))}
    values["data"]["files"] = str(data.parent)
    values |= {"stages": [stage(steps=1, batch_size=1)]}
    codes, said = end_two("fsdp", write_config(tmp_path / "config.json", values))
    assert codes == [2, 2]
    assert all("1 of 2 processes have pictures; under FSDP2 give every sample a picture" in text for text in said)
