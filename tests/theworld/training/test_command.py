"""`theworld-train` answers wrong usage, wrong surroundings and its own faults with one line and the right exit code."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from theworld.command_line import run_command
from theworld.training import config as config_module
from theworld.training import run as run_module
from theworld.training.__main__ import _answer, _OneLine, _say, app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: CONFIG is missing; give theworld-train CONFIG; see theworld-train --help"),
        (
            ["a.yaml", "--dryrun"],
            "error: --dryrun: there is no such option; did you mean --dry-run?; see theworld-train --help",
        ),
        ([""], "error: an argument is empty; give a value, or leave it out"),
        (["nowhere.yaml"], "nowhere.yaml: missing; check the path and its permissions"),
        (["no\x1b[31m\nwhere.yaml"], r"no\x1b[31m\nwhere.yaml: missing; check the path and its permissions"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments, prog_name="theworld-train")
    assert (result.exit_code, result.stderr) == (2, f"{said}\n")


def test_a_launcher_that_writes_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "x\x1b")
    result = CliRunner().invoke(app, ["nowhere.yaml"], prog_name="theworld-train")
    assert result.exit_code == 2
    assert result.stderr == (r"RANK: 'x\x1b' is no whole number; unset it in the environment, or use a launcher" + "\n")


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            KeyError("a\nb"),
            4,
            r"internal error: KeyError: 'a\nb'; run again with --debug for the traceback, and",
        ),
        (OutOfMemoryError("tried to allocate"), 1, "tried to allocate; take a smaller batch_size, or gradient_"),
        (OSError(28, "No space left on device"), 1, "No space left on device; the checkpoints before it are whole"),
        (SystemExit("library says no"), 4, "internal error: SystemExit: library says no; run again with --debug"),
        (SystemExit(0), 4, "internal error: SystemExit: 0; run again with --debug"),
    ],
)
def test_what_nobody_foresaw_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def fail(_: Path) -> Any:
        raise error

    monkeypatch.setattr(config_module, "read_config", fail)
    assert _answer(Path("a.yaml"), resume=True, dry=False) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert _answer(Path("a.yaml"), resume=True, dry=False, debug=True) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 4)


def test_a_text_that_ends_a_command_is_said_and_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    def main(**_: Any) -> None:
        raise SystemExit("library\nsays no")

    with pytest.raises(SystemExit) as end:
        run_command(main, args=["a"])
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: library\\nsays no\n"


def test_a_dry_run_whose_reader_has_seen_enough_says_nothing_of_checkpoints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(config_module, "read_config", lambda path: None)
    monkeypatch.setattr(run_module, "dry_run", lambda config: "12 samples")
    monkeypatch.setattr("builtins.print", broken)
    with pytest.raises(BrokenPipeError):  # `run_command` has rules for it
        _answer(Path("a.yaml"), resume=True, dry=True)
    assert capsys.readouterr().err == ""


def test_names_out_of_files_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _say("a\x1b[31m\nb", 2)
    assert capsys.readouterr().err == "a\\x1b[31m b\n"
    record = logging.LogRecord("a", 20, "b", 1, "skipped %s", ("c\x1b[31m\nd",), None)
    assert _OneLine("%(message)s").format(record) == r"skipped c\x1b[31m\nd"


@pytest.mark.parametrize(
    "command",
    [
        ("theworld.training", "--help"),
        ("theworld_validate", "--help"),
        ("theworld_validate", "--version"),
        ("theworld_validate", "selftest", "--list"),
    ],
)
def test_a_stdout_without_room_is_one_line(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert ended.stderr == (
        "error: stdout: cannot be written (No space left on device); free some space or name another place\n"
    )
    assert ended.returncode == 2
