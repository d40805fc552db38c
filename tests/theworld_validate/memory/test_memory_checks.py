"""The memory commands: tables, budgets as a gate, what is kept of work that ends early, bad input in one line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory import checks
from theworld_validate.memory.answers import ModelSource, Terms
from theworld_validate.memory.architectures import HOPPER
from theworld_validate.memory.cells import Cell, build_matrix
from theworld_validate.memory.findings import judge_predicted, warn_of_kernels
from theworld_validate.memory.gpus import find_gpu
from theworld_validate.memory.lengths import read_lengths
from theworld_validate.memory.outcomes import Predicted, Prediction
from theworld_validate.memory.run_checks import RunTerms, check_runs
from theworld_validate.memory.run_outcomes import RunQuestion
from theworld_validate.results import CheckResult, Status
from theworld_validate.workers.run import Run

BARE = ("memory", "predict", "--config", "tiny")
SMALL = ("--config", "tiny", "--preset", "projection", "--checkpointing", "off", "--text-tokens", "100")


def predict(*arguments: object) -> Any:
    return invoke("memory", "predict", *SMALL, *arguments)


def test_a_prediction_is_a_table_and_json(tmp_path: Path) -> None:
    result = predict("--chunked-loss", "both", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    # In a pipe a row is one line, however long.
    assert re.search(r"^projection \+ chunked loss +[\d.]+ MB +[\d.]+ MB$", result.stdout, re.MULTILINE)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["subjects"][0]["checkpoint"] == "tiny"
    measurements = report["checks"][0]["measurements"]
    plain, chunked = measurements["cells"]
    assert plain["peak_allocated_bytes"] > chunked["peak_allocated_bytes"] > chunked["least_bytes"]
    assert sum(v for k, v in measurements["splits"][0].items() if k.endswith("_bytes")) == plain["peak_allocated_bytes"]
    for name in ("split", "timeline"):
        assert "<svg" in (tmp_path / f"memory.predict.{name}.svg").read_text()


def test_a_sweep_is_a_curve_with_the_largest_that_fits(tmp_path: Path) -> None:
    result = predict("--sweep", "batch", "--gpu", "1.4", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    measurements = json.loads((tmp_path / "report.json").read_text())["checks"][0]["measurements"]
    (curve,) = measurements["curves"]
    assert curve["largest_that_fits"] == max(row["batch"] for row in measurements["cells"] if row["fits"])
    assert curve["sizes"] == sorted(curve["sizes"])
    assert "the limit of the GPU" in (tmp_path / "memory.predict.sweep.svg").read_text()


@pytest.mark.parametrize("sweep", [(), ("--sweep", "batch"), ("--sweep", "text"), ("--sweep", "world")])
def test_a_gpu_that_the_context_fills_fits_nothing(sweep: tuple[str, ...]) -> None:
    result = predict("--gpu", "1.01", *sweep)
    assert result.exit_code == 1, result.output
    assert "does not fit 1.01 GiB: its parameters and inputs alone take" in " ".join(result.stdout.split())


def test_what_does_not_fit_fails_with_a_way_out() -> None:
    result = predict("--gpu", "1.2", "--batch", "2")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "does not fit 1.2 GiB" in text
    assert "it fits with" in text
    assert predict("--gpu", "h200").exit_code == 0


def test_a_huge_batch_is_answered_at_once() -> None:
    started = time.perf_counter()
    result = invoke("memory", "predict", "--config", "tiny", "--batch", 1_000_000, "--gpu", 2, "--json")
    assert result.exit_code == 1, result.output
    (check,) = json.loads(result.stdout)["checks"]
    assert {(row["peak_reserved_bytes"], row["fits"]) for row in check["measurements"]["cells"]} == {(None, False)}
    assert len(check["findings"]) == 8
    assert time.perf_counter() - started < 60


def test_a_budget_is_a_gate(tmp_path: Path) -> None:
    fits, over, unused = (tmp_path / name for name in ("fits.toml", "over.toml", "unused.toml"))
    fits.write_text("[[budget]]\npreset = 'projection'\nmax_allocated_gb = 1\n")
    assert predict("--budget", fits).exit_code == 0
    over.write_text("[[budget]]\nmax_reserved_gb = 0.001\n")
    result = predict("--budget", over)
    assert result.exit_code == 1
    assert "its budget is 1.0 MB" in " ".join(result.stdout.split())
    unused.write_text("[[budget]]\npreset = 'full'\nmax_allocated_gb = 1\n")
    result = predict("--budget", unused)
    assert result.exit_code == 1
    assert "no configuration of this run is in it" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--preset", "half"], ["--preset: no preset is named 'half'; there are projection"]),
        (["--gpu", "h20"], ["--gpu h20: no such GPU", "did you mean h200?"]),
        (["--sweep", "depth"], ["--sweep depth: give batch, text or world"]),
        (["--text-tokens", "9000"], ["the prompt has", "positions for 4,096"]),
        (["--world-tokens", "785"], ["785 is none; 784 would do"]),
        (["--batch", "99999999999999999999999"], ["--batch: batch must be a whole number from 1 to 1,000,000"]),
        (["--gpus", "1000000000"], ["--gpus: num_gpus must be a whole number from 1 to 512"]),
        (["--budget", "no/such.toml"], ["--budget no/such.toml"]),
        (["--budget", "/dev/zero"], ["--budget /dev/zero"]),
        (["--model", "x", "--config", "4b"], ["--model and --config both name a model"]),
        (["--config", "no/such.json"], ["no/such.json"]),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], parts: list[str]) -> None:
    before = [] if "--config" in arguments else ["--config", "tiny"]
    assert_input_error(invoke("memory", "predict", *before, *arguments), *parts)


def test_an_absurd_config_is_one_line(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    values = json.loads((tiny.gemma / "config.json").read_text())
    values["text_config"]["num_hidden_layers"] = 1_000_000
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    assert_input_error(invoke("memory", "predict", "--config", path), "num_hidden_layers")


CELLS = build_matrix(batch=[1, 2, 3])


def prediction(cell: Cell) -> Prediction:
    return Prediction(cell=cell, results=(Predicted(cell=cell, least_bytes=1, peak_allocated_bytes=5),))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("planted")])
def test_what_was_predicted_is_kept_when_the_rest_is_not(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_two(*_: object, **__: object) -> Iterator[Prediction]:
        yield prediction(CELLS[0])
        yield prediction(CELLS[2])
        raise error

    monkeypatch.setattr(checks, "answer_in_workers", answer_two)
    found: list[CheckResult] = []
    with pytest.raises(type(error)):
        found.extend(checks.predict_in_workers(Run(), ModelSource(), CELLS, terms=Terms()))
    # `extend` takes what came before the error
    (check,) = found
    assert (check.status, check.reason) == (Status.INCONCLUSIVE, "it ended early: 1 configuration is missing")
    assert [row["batch"] for row in check.measurements["cells"]] == [1, 3]  # pyrefly: ignore


def test_a_cell_that_could_not_be_predicted_fails_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_all(*_: object, **__: object) -> Iterator[Prediction]:
        yield prediction(CELLS[0])
        yield Prediction(cell=CELLS[1], error="RuntimeError: planted")
        yield prediction(CELLS[2])

    monkeypatch.setattr(checks, "answer_in_workers", answer_all)
    (check,) = checks.predict_in_workers(Run(), ModelSource(), CELLS, terms=Terms(gpu=find_gpu("h200")))
    assert check.status is Status.FAILED
    assert [row["batch"] for row in check.measurements["cells"]] == [1, 3]  # pyrefly: ignore
    assert "could not be predicted: RuntimeError: planted" in check.findings[0].message


def test_measuring_without_a_gpu_is_skipped_and_no_pass(tiny: SyntheticCheckpoint) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = invoke("memory", "measure", "--json", "--model", tiny.gemma, "--cosmos", tiny.cosmos)
    assert result.exit_code == 3, result.output
    (check,) = json.loads(result.stdout)["checks"]
    assert (check["status"], check["id"]) == ("skipped", "memory.measure")
    assert "no CUDA device" in check["reason"]
    assert_input_error(invoke("memory", "measure", "--device", "cpu"), "--device cpu: memory is measured on cuda")


@pytest.mark.parametrize("delay", [0.5, 2.0, 8.0])
def test_an_interrupt_of_the_whole_group_is_quiet(delay: float) -> None:
    command = [sys.executable, "-m", "theworld_validate", "memory", "predict", "--config", "tiny"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(delay)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - started < 3  # 1 s on a machine that does nothing else
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1] == "interrupted"


def test_a_gpu_of_another_architecture_is_warned_of() -> None:
    """Predictions are of Hopper's kernels: that a cell fits an L4 was never held against one."""
    assert [find_gpu(name).architecture for name in ("h200", "24")] == [HOPPER, None]
    assert warn_of_kernels(find_gpu("h100-80g")) == warn_of_kernels(find_gpu("24")) == warn_of_kernels(None) == []
    for name in ("l4", "rtx4090", "a100-40g", "a100-80g"):
        (finding,) = warn_of_kernels(find_gpu(name))
        assert (finding.code, finding.severity) == ("memory.kernels_unmeasured", "warning")
        assert "memory-efficient" in str(finding.cause)
        assert "8.1 MiB" in str(finding.cause)


def test_both_predictions_warn_of_it() -> None:
    terms = Terms(gpu=find_gpu("l4"))
    assert [finding.code for finding in judge_predicted([], terms)] == ["memory.kernels_unmeasured"]
    question = RunQuestion(lengths=read_lengths("uniform:20:40", num_steps=2, seed=0))
    (check,) = check_runs([], [], RunTerms(question=question, gpu=find_gpu("l4")))
    assert [finding.code for finding in check.findings] == ["memory.kernels_unmeasured"]


def test_kinds_that_no_gpu_was_asked_about_are_warned_of() -> None:
    """A fit of these is what the libraries' code says, and was held against nothing."""
    measured = [Cell(), Cell(num_gpus=2), Cell(num_gpus=2, offload_optimizer=True), Cell(optimizer="adamw-8bit")]
    others = [
        Cell(offload_optimizer=True),
        Cell(num_gpus=3),
        Cell(num_gpus=2, strategy="ddp", offload_activations=True),
        Cell(world_tokens=0, optimizer="adamw-8bit"),
    ]
    terms = Terms(gpu=find_gpu("h200"))
    assert judge_predicted([fitting(cell) for cell in measured], terms) == []
    found = judge_predicted([fitting(cell) for cell in others], terms)
    assert [(finding.code, finding.severity) for finding in found] == [("memory.kind_unmeasured", "warning")] * 4


def fitting(cell: Cell) -> Prediction:
    return Prediction(cell=cell, results=(Predicted(cell=cell, least_bytes=1, fits=True, seconds=0.0),))


def test_what_is_predicted_on_one_gpu_only_is_refused_on_several() -> None:
    for option, value in (("--optimizer", "adamw-8bit"), ("--accumulation", "2"), ("--adapter", "lora:4")):
        assert_input_error(invoke(*BARE, "--gpus", 2, option, value), "on one GPU")


def test_two_adapters_of_one_name_are_no_two_rows(tmp_path: Path) -> None:
    for run, modules in (("one", ["q_proj"]), ("two", ["q_proj", "v_proj"])):
        (tmp_path / run / "final").mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 4, "target_modules": modules}
        (tmp_path / run / "final" / "adapter_config.json").write_text(json.dumps(config))
    given = [word for run in ("one", "two") for word in ("--adapter", str(tmp_path / run / "final"))]
    assert_input_error(invoke(*BARE, *given), "--adapter: two different adapters are called LoRA r=4 (final)")


def test_a_pattern_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": "*bad["}))
    assert_input_error(invoke(*BARE, "--adapter", tmp_path), "does not fit TheWorld")
