"""Sizes, budgets and configs that no prediction can be made of: one line, soon. What does not fit is a failure."""

import json
import os
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint

ONE_CELL = ("--config", "tiny", "--preset", "projection", "--checkpointing", "off", "--text-tokens", "64")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--batch", "99999999999999999999999"], ["--batch", "batch must be a whole number from 1 to 1,000,000"]),
        (["--batch", "0"], ["--batch", "from 1"]),
        (["--batch", "-1"], ["--batch", "from 1"]),
        (["--gpus", "1000000000"], ["--gpus", "from 1 to 512"]),
        (["--gpus", "0"], ["--gpus", "from 1"]),
        (["--text-tokens", "99999999999999999999999"], ["--text-tokens", "from 1 to 10,000,000"]),
        (["--world-tokens", "783"], ["--world-tokens", "784 would do"]),
        (["--world-tokens", "1000000000000"], ["--world-tokens", "from 1 to 1,048,576"]),
        (["--gpu", "evil"], ["--gpu evil"]),
        (["--gpu", "nan"], ["--gpu nan"]),
        (["--gpu", "inf"], ["--gpu inf"]),
        (["--gpu", "-1"], ["--gpu -1"]),
        (["--gpu", "1e400"], ["--gpu 1e400"]),
        (["--sweep", "evil"], ["--sweep evil"]),
        (["--preset", "evil"], ["--preset", "evil"]),
        (["--optimizer", "evil"], ["--optimizer", "evil"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_size_that_is_none_is_one_line(arguments: list[str], parts: list[str]) -> None:
    result = invoke("memory", "predict", "--config", "tiny", *arguments)
    assert_input_error(result, *parts)
    assert len(result.stderr) < 1000


def test_a_number_of_too_many_digits_is_wrong_usage() -> None:
    result = invoke("memory", "predict", "--batch", "9" * 5000)
    assert_input_error(result, "--batch: ", "--help")


def test_a_batch_that_no_gpu_has_room_for_does_not_fit() -> None:
    """And is not traced to its end to say so."""
    arguments = ("--config", "4b", "--preset", "projection", "--checkpointing", "on")
    result = invoke("memory", "predict", *arguments, "--batch", "1000000", "--gpu", "2", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    (check,) = json.loads(result.stdout)["checks"]
    assert (check["id"], check["status"]) == ("memory.predict", "failed")
    (finding,) = check["findings"]
    assert finding["code"] == "memory.does_not_fit"


BUDGETS = {
    "bf-nan": ("[[budget]]\nmax_allocated_gb = nan", "nan"),
    "bf-inf": ("[[budget]]\nmax_allocated_gb = inf", "inf"),
    "bf-neg": ("[[budget]]\nmax_allocated_gb = -1", "max_allocated_gb must be a number above 0"),
    "bf-list": ("budget = [1]", "budget 1 is 1, and must be a [[budget]] table"),
    "bf-number": ("budget = 1", "it must hold [[budget]] tables"),
    "bf-hugeint": (f"[[budget]]\nmax_allocated_gb = {'9' * 400}", "max_allocated_gb must be a number above 0"),
    "bf-text": ('[[budget]]\nmax_allocated_gb = "1"', "max_allocated_gb must be a number above 0"),
    "bf-bool": ("[[budget]]\nmax_allocated_gb = true", "max_allocated_gb must be a number above 0"),
    "bf-unknown": ("[[budget]]\nmax_allocated_gb = 1\nbatchh = 1", "unknown key batchh; did you mean batch?"),
    "bf-none": ("[[budget]]\nbatch = 1", "budget 1 has no limit"),
    "bf-empty": ("", "it must hold [[budget]] tables"),
    "bf-broken": ("[[budget", "not valid TOML"),
    "bf-bytes": ("\udcff", "not UTF-8"),
}


@pytest.mark.parametrize("case", BUDGETS)
def test_a_budget_that_is_none_is_one_line(tmp_path: Path, case: str) -> None:
    text, part = BUDGETS[case]
    path = tmp_path / "bud.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert_input_error(invoke("memory", "predict", *ONE_CELL, "--budget", path), f"--budget {path}: ", part)


@pytest.mark.parametrize("what", ["/dev/zero", "fifo", "folder", "missing"])
def test_a_budget_that_is_no_file_is_one_line(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bud.toml"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what != "missing":
        path.symlink_to(what)
    assert_input_error(invoke("memory", "predict", *ONE_CELL, "--budget", path), f"--budget {path}: ")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("text_config", "num_hidden_layers", 1_000_000),
        ("text_config", "hidden_size", 10**9),
        ("vision_config", "num_hidden_layers", 10**7),
        ("vision_config", "image_size", 10**6),
    ],
)
@pytest.mark.parametrize("command", ["predict", "params"])
def test_a_geometry_that_is_none_is_one_line(
    tiny: SyntheticCheckpoint, tmp_path: Path, command: str, section: str, field: str, value: int
) -> None:
    values = json.loads((tiny.gemma / "config.json").read_text())
    values[section][field] = value
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    words = ("memory", "predict") if command == "predict" else ("params",)
    assert_input_error(invoke(*words, "--config", path), str(path), field)


@pytest.mark.parametrize("seed", ["999999999999999999999999999999", "4294967296", "-1", "x", "1.5"])
@pytest.mark.parametrize("command", ["parity", "world", "synth"])
def test_a_seed_that_torch_does_not_take_is_wrong_usage(tmp_path: Path, command: str, seed: str) -> None:
    words = ("synth", tmp_path / "new") if command == "synth" else (command,)
    result = invoke(*words, "--seed", seed)
    assert_input_error(result, "--seed: ", "--help")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e30", "x"])
def test_a_timeout_that_is_none_is_wrong_usage(seconds: str) -> None:
    result = invoke("parity", "--timeout", seconds)
    assert_input_error(result, "--timeout: ", "--help")
