"""The memory commands: tables, budgets as a gate, and bad input in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.cli.test_cli import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory.budget import read_budgets
from theworld_validate.results import InputError

SMALL = ("--config", "tiny", "--preset", "projection", "--checkpointing", "off", "--text-tokens", "100")


def predict(*arguments: object) -> Any:
    return invoke("memory", "predict", *SMALL, *arguments)


def test_a_prediction_is_a_table_and_json(tmp_path: Path) -> None:
    result = predict("--chunked-loss", "both", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "projection + chunked loss" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    measurements = json.loads((tmp_path / "report.json").read_text())["checks"][0]["measurements"]
    plain, chunked = measurements["cells"]
    assert plain["peak_allocated_bytes"] > chunked["peak_allocated_bytes"]
    assert sum(v for k, v in measurements["splits"][0].items() if k.endswith("_bytes")) == plain["peak_allocated_bytes"]
    for name in ("split", "timeline"):
        assert "<svg" in (tmp_path / f"memory.predict.{name}.svg").read_text()


def test_figures_are_the_same_for_the_same_report(tmp_path: Path) -> None:
    from theworld_validate.rendering.figures import draw_figures

    report = json.loads(predict("--json").stdout)
    assert draw_figures(report) == draw_figures(report)
    assert len(draw_figures(report)) == 2


def test_a_sweep_is_a_curve_with_the_largest_that_fits(tmp_path: Path) -> None:
    result = predict("--sweep", "batch", "--gpu", "1.2", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    measurements = json.loads((tmp_path / "report.json").read_text())["checks"][0]["measurements"]
    (curve,) = measurements["curves"]
    assert curve["largest_that_fits"] == max(row["batch"] for row in measurements["cells"] if row["fits"])
    assert curve["sizes"] == sorted(curve["sizes"])
    assert "what can be had" in (tmp_path / "memory.predict.sweep.svg").read_text()


def test_what_does_not_fit_fails_with_a_way_out() -> None:
    result = predict("--gpu", "1.05", "--batch", "8")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "does not fit 1.05 GiB" in text
    assert "it fits with" in text or "no lever, nor pair of them, makes it fit" in text
    assert predict("--gpu", "h200").exit_code == 0


def write_budget(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_budget_is_a_gate(tmp_path: Path) -> None:
    fits = write_budget(tmp_path / "fits.toml", "[[budget]]\npreset = 'projection'\nmax_allocated_gb = 1\n")
    assert predict("--budget", fits).exit_code == 0
    over = write_budget(tmp_path / "over.toml", "[[budget]]\nmax_reserved_gb = 0.001\n")
    result = predict("--budget", over)
    assert result.exit_code == 1
    assert "its budget is 0.001 GB" in " ".join(result.stdout.split())
    unused = write_budget(tmp_path / "unused.toml", "[[budget]]\npreset = 'full'\nmax_allocated_gb = 1\n")
    result = predict("--budget", unused)
    assert result.exit_code == 1
    assert "no cell of this run is in it" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not readable as TOML"),
        ("[[", "not readable as TOML"),
        ("", "must hold"),
        ("limit = 3\n", "must hold"),
        ("[[budget]]\nmax_alocated_gb = 3\n", "budget 1 has an unknown key max_alocated_gb; there are preset,"),
        ("[[budget]]\npreset = 'full'\n", "budget 1 has no limit; give max_allocated_gb or max_reserved_gb"),
        ("[[budget]]\nmax_allocated_gb = 'much'\n", "max_allocated_gb must be a number above 0, got 'much'"),
    ],
)
def test_a_wrong_budget_file_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "budget.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"budget\.toml") as caught:
        read_budgets(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--preset", "half"], ["no preset is named 'half'; there are projection"]),
        (["--gpu", "h20"], ["--gpu h20: no such GPU", "did you mean h200?"]),
        (["--sweep", "depth"], ["--sweep depth: give batch, text or world"]),
        (["--text-tokens", "9000"], ["the prompt has", "positions for 4,096"]),
        (["--world-tokens", "785"], ["785 is none; 784 would do"]),
        (["--budget", "no/such.toml"], ["--budget no/such.toml: not readable"]),
        (["--model", "x", "--config", "4b"], ["--model and --config both name a model"]),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], parts: list[str]) -> None:
    assert_input_error(invoke("memory", "predict", "--config", "tiny", *arguments), *parts)


def test_measuring_without_a_gpu_is_skipped_and_no_pass(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke("memory", "measure", "--json")
    assert result.exit_code == 3
    (check,) = json.loads(result.stdout)["checks"]
    assert (check["status"], check["id"]) == ("skipped", "memory.measure")
    assert "no CUDA device" in check["reason"]
