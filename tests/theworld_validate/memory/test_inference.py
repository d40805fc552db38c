"""Memory of inference: predicted as the same call with real tensors allocates it, and what is said of it."""

import gc
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world
from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.memory.test_predict import CPU_SCRATCH_BYTES, profiled_peak
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_encoder import WorldEncoder
from theworld_validate.memory import call_trace
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import prepare_model
from theworld_validate.memory.cells import Cell, build_matrix
from theworld_validate.memory.cuda_routes import attention_as_on_cuda
from theworld_validate.memory.inference import run_call
from theworld_validate.memory.levers import find_levers, sweep
from theworld_validate.memory.outcomes import Predicted
from theworld_validate.memory.predict import Predictor
from theworld_validate.memory.replay import CallTrace
from theworld_validate.results import InputError
from theworld_validate.subjects.empty_models import blueprint_of_size
from theworld_validate.subjects.empty_pipeline import pipeline_of_repository, pipeline_of_size

GENERATE = Cell(task="generate", text_tokens=60, world_tokens=64, batch=3, frames=5, new_tokens=7)
ROLLOUT = Cell(task="rollout", text_tokens=20, world_tokens=64, frames=5, world_steps=2, new_tokens=3)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(blueprint_of_size("tiny"), pipeline_of_size("tiny", 16, "predict2"))


@pytest.fixture(scope="module")
def real(tiny: SyntheticCheckpoint, whole_cosmos: Path) -> TheWorld:
    checkpoint = SyntheticCheckpoint(gemma=tiny.gemma, cosmos=whole_cosmos)
    model = load_world(checkpoint, dtype=torch.bfloat16, world={})
    peak_of_real_call(model, replace(ROLLOUT, denoising_steps=1))  # loads what predicts
    return model


def peak_of_real_call(model: TheWorld, cell: Cell, prompt: str = "first") -> int:
    prepare_model(model, cell)
    inputs = make_inputs(cell, model.config, device="cpu")
    changes = {"prompt": prompt} if cell.task == "rollout" else {}

    def run() -> None:
        with attention_as_on_cuda():
            run_call(model, inputs, cell, on_phase=lambda phase: None, **changes)

    gc.collect()
    return profiled_peak(run)


def peak_of_trace(predictor: Predictor, cell: Cell) -> int:
    """Peak bytes of the last call over what was there before it; weights do not move where all is one device."""
    trace = predictor.trace(cell)
    assert isinstance(trace, CallTrace)
    allocated = peak = 0
    for event in trace.calls[-1]:
        if event.storage not in trace.moved:
            allocated += event.num_bytes
            peak = max(peak, allocated)
    return peak


@pytest.mark.parametrize(
    "cell",
    [GENERATE, Cell(task="generate", text_tokens=1, world_tokens=1, new_tokens=13), ROLLOUT],
    ids=lambda cell: cell.title,
)
def test_it_is_what_a_real_call_allocates(predictor: Predictor, real: TheWorld, cell: Cell) -> None:
    """Windows that are full at once, windows that fill up while tokens are decoded, and Cosmos looking ahead."""
    real_peak = peak_of_real_call(real, cell, prompt="second")
    assert peak_of_trace(predictor, cell) == pytest.approx(real_peak, rel=2e-3, abs=CPU_SCRATCH_BYTES)


def test_frames_that_are_kept_would_show(predictor: Predictor, real: TheWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail: of 3 clips of 5 frames, a copy takes 0.7 MB."""
    right = peak_of_trace(predictor, GENERATE)  # before: what is traced has the fault too
    kept: list[torch.Tensor] = []
    encode = WorldEncoder.forward
    monkeypatch.setattr(
        WorldEncoder, "forward", lambda self, frames: kept.append(frames.clone()) or encode(self, frames)
    )
    assert peak_of_real_call(real, GENERATE) > right + 2 * CPU_SCRATCH_BYTES


def test_tokens_that_are_not_traced_are_as_if_they_were(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = replace(GENERATE, new_tokens=10)
    made = predictor.predict(cell)
    monkeypatch.setattr(call_trace, "NUM_TRACED", 100)
    traced = Predictor(blueprint_of_size("tiny")).predict(cell)
    for name in ("peak_allocated_bytes", "peak_reserved_bytes", "phase_peaks_bytes", "split_bytes"):
        assert getattr(made, name) == getattr(traced, name), name


def test_the_cache_grows_with_each_token_and_stops_at_the_window(predictor: Predictor) -> None:
    """Of eight layers one is full; keys and values are in bfloat16."""
    text = blueprint_of_size("tiny").text_config
    for num_tokens in (7, 10):
        trace = predictor.trace(replace(GENERATE, new_tokens=num_tokens))
        assert isinstance(trace, CallTrace)
        sizes = [event.num_bytes for event in trace.calls[-1] if event.storage in trace.cached and event.num_bytes > 0]
        a_token, prompt = 3 * text.num_key_value_heads * text.head_dim * 2, 1 + 60 + 18 + 2 * 64 + 2
        assert sum(sizes[-16:]) == 2 * a_token * (prompt + num_tokens - 1) + 7 * 2 * a_token * text.sliding_window


def test_weights_that_predict_come_and_go(predictor: Predictor) -> None:
    resident, offloaded = predictor.predict(ROLLOUT), predictor.predict(replace(ROLLOUT, offload=True))
    sizes = predictor._part_bytes()
    trace = predictor.trace(replace(ROLLOUT, offload=True))
    assert isinstance(trace, CallTrace)
    moves = [event.num_bytes for event in trace.calls[1] if event.storage in trace.moved]
    assert sum(moves) == 0
    assert sum(size for size in moves if size > 0) >= sum(sizes)
    assert not [event for event in predictor.trace(ROLLOUT).calls[1] if event.operator == "to the device"]  # pyrefly: ignore
    assert resident.least_bytes - offloaded.least_bytes == min(sizes)
    model = predictor.predict(GENERATE).split_bytes["parameters"]
    assert resident.split_bytes["parameters"] >= model + sum(sizes)
    assert offloaded.split_bytes["parameters"] < resident.split_bytes["parameters"]
    assert set(resident.phase_peaks_bytes) == {"encode", "text", "denoise", "prefill", "decode"}
    assert sum(resident.split_bytes.values()) == resident.peak_allocated_bytes


@pytest.mark.parametrize("cell", [ROLLOUT, replace(ROLLOUT, offload=True)], ids=["resident", "offloaded"])
def test_nothing_is_taken_twice(predictor: Predictor, cell: Cell) -> None:
    """What predicts is small beside a workspace at the tiny size; taken twice, it is 14 GB at the real one."""
    trace = predictor.trace(cell)
    assert isinstance(trace, CallTrace)
    living = {number for number, _ in trace.persistent}
    for event in itertools.chain(*trace.calls):
        if event.num_bytes > 0:
            assert event.storage not in living, event
            living.add(event.storage)
        else:
            living.discard(event.storage)


def test_predict_25_is_predicted_too(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    import shutil

    from theworld.synthetic_pipeline import write_pipeline

    folder = Path(shutil.copytree(tiny.cosmos, tmp_path / "cosmos"))
    write_pipeline("tiny", folder, generation="predict2.5")
    shape = pipeline_of_repository(str(folder))
    assert shape.generation == "predict2.5"
    by_files = Predictor(blueprint_of_size("tiny"), shape)
    by_name = Predictor(blueprint_of_size("tiny"), pipeline_of_size("tiny", 16, "predict2.5"))
    assert by_files._part_bytes() == by_name._part_bytes()
    predicted = by_files.predict(replace(ROLLOUT, frames=1, new_tokens=1, guidance=False))
    assert predicted.peak_allocated_bytes is not None
    assert predicted.peak_allocated_bytes > predicted.least_bytes
    with pytest.raises(InputError, match="no transformer folder"):
        pipeline_of_repository(str(tiny.cosmos))


class Roomy:
    """A predictor for which everything fits."""

    def predict(self, cell: Cell, **_: Any) -> Predicted:
        return Predicted(cell=cell, least_bytes=1, peak_reserved_bytes=1, fits=True)


def test_levers_and_sweeps_are_those_of_inference() -> None:
    predictor: Any = Roomy()
    titles = {cell.task: [way.title for way in find_levers(predictor, cell, capacity_bytes=1)]
              for cell in (ROLLOUT, replace(ROLLOUT, offload=True), GENERATE, Cell())}  # fmt: skip
    assert titles["generate"] == ["a clip of half the side"]
    assert titles["rollout"] == ["a clip of half the side"], "what is offloaded already"
    assert "offload" in [way.title for way in find_levers(predictor, ROLLOUT, capacity_bytes=1)]
    assert "offload" not in titles["train"]
    swept = sweep(predictor, replace(ROLLOUT, world_tokens=4), "world", capacity_bytes=None)
    assert [one.cell.world_tokens for one in swept] == [4, 16, 64, 256, 1024]
    assert all(one.cell.grid_side % 2 == 0 for one in sweep(predictor, ROLLOUT, "world", capacity_bytes=9))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "dream"}, "no task is named 'dream'; there are train, evaluate, generate, rollout"),
        ({"task": "generate", "offload": True}, "offload is no part of the task generate"),
        ({"task": "rollout", "preset": "full"}, "preset is no part of the task rollout"),
        ({"new_tokens": 5}, "new_tokens is no part of the task train"),
        ({"task": "generate", "frames": 4}, r"frames must be 1 \+ 4k, got 4; 1 would do"),
        ({"task": "generate", "new_tokens": 10**9}, "new_tokens must be a whole number from 1 to 8,192"),
        ({"task": "rollout", "world_tokens": 49}, "has even sides: 49 is none; 64 would do"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_matrix(**{name: [value] for name, value in fields.items()})


def test_what_cannot_be_predicted_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match=r"are 102 latent steps, and max_world_steps is 32"):
        predictor.predict(replace(ROLLOUT, world_steps=100))
    with pytest.raises(InputError, match=r"and 8,000 are to come, and the model has positions for 4,096"):
        predictor.predict(replace(GENERATE, new_tokens=8000))
    with pytest.raises(InputError, match="nothing that predicts"):
        Predictor(blueprint_of_size("tiny")).predict(ROLLOUT)
    with pytest.raises(InputError, match="the VAE makes 16 latent channels, and what predicts takes 48"):
        Predictor(blueprint_of_size("tiny"), pipeline_of_size("tiny", 48, "predict2")).predict(ROLLOUT)


SMALL = ("--config", "tiny", "--text-tokens", "20", "--world-tokens", "16", "--new-tokens", "3")


def test_the_command_predicts_rollouts_and_its_report_says_who_owns_what(tmp_path: Path) -> None:
    result = invoke("memory", "predict", "--task", "rollout", *SMALL, "--offload", "on", "--world-steps", "1",
                    "--gpu", "l4", "--output", tmp_path)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "rollout + offload" in result.stdout
    measurements = json.loads((tmp_path / "report.json").read_text())["checks"][0]["measurements"]
    assert [row["fits"] for row in measurements["cells"]] == [True]
    assert {row["world_steps"] for row in measurements["cells"]} == {1}
    (split,) = measurements["splits"]
    assert split["parameters_bytes"] > 0
    assert "cache_bytes" in split
    assert "gradients_bytes" not in split
    assert list(measurements["phase_peaks"][0])[-5:] == [
        f"{phase}_bytes" for phase in ("encode", "text", "denoise", "prefill", "decode")
    ]


def test_a_budget_may_be_of_calls(tmp_path: Path) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text("[[budget]]\ntask = 'generate'\nnew_tokens = 3\nmax_allocated_gb = 0.001\n")
    result = invoke("memory", "predict", "--task", "generate", *SMALL, "--budget", budget)
    assert result.exit_code == 1
    assert "its budget is 1.0 MB" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--task", "generate", "--preset", "full"], ["--preset is of --task train; leave it out of --task generate"]),
        (["--offload", "on"], ["--offload is of --task rollout"]),
        (["--task", "generate", "--frames", "3"], ["--frames: frames must be 1 + 4k, got 3"]),
        (["--task", "rollout", "--world-tokens", "49"], ["even sides"]),
        (["--task", "rollout", "--world-steps", "1000000000"], ["--world-steps: world_steps must be a whole number"]),
        (["--task", "generate", "--generation", "predict2.5"], ["--generation is of --task rollout"]),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], parts: list[str]) -> None:
    assert_input_error(invoke("memory", "predict", "--config", "tiny", *arguments), *parts)


def test_the_help_tells_of_inference() -> None:
    text = " ".join(invoke("memory", "predict", "--help").stdout.split())
    for option in ("--task", "--new-tokens", "--world-steps", "--denoising-steps", "--guidance", "--offload"):
        assert option in text


def test_a_rollout_prints_nothing_of_its_own(tmp_path: Path) -> None:
    """The pipeline's progress bar makes a semaphore, which Python warned of when the command was over."""
    command = [sys.executable, "-m", "theworld_validate", "memory", "predict", "--config", "tiny", "--quiet"]
    command += ["--task", "rollout", "--world-steps", "1", "--new-tokens", "1", "--text-tokens", "4"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
