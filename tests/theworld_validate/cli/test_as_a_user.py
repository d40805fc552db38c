"""The command as people meet it: in a pipe, in terminals of several widths, typed wrongly, and read by `head`.

Each is a fresh process in an empty folder, of a command that imports no torch.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.rendering.sample_reports import parity_report
from theworld_validate.cli import commands
from theworld_validate.rendering.json_text import render_json
from theworld_validate.results import Status

COMMAND = [sys.executable, "-m", "theworld_validate"]
FOUND = (
    "regress.findings: parity.buffers model.rotary_emb.inv_freq: new error: "
    "model.rotary_emb.inv_freq: dtype is bfloat16, expected float32 (buffers.dtype)"
)


@pytest.fixture
def worse(tmp_path: Path) -> tuple[str, ...]:
    """A command that fails: a report that is worse than its baseline."""
    current = parity_report()
    checks = tuple(replace(check, status=Status.PASSED, reason=None, findings=()) for check in current.checks)
    for name, report in (("before", replace(current, checks=checks)), ("after", current)):
        (tmp_path / f"{name}.json").write_text(render_json(report), encoding="utf-8")
    return ("regress", str(tmp_path / "before.json"), str(tmp_path / "after.json"))


def shell(line: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash, whose exit code is the command's and not the pipe's end."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def on_a_terminal(arguments: tuple[str, ...], folder: Path, width: int, **environment: str) -> tuple[int, str]:
    """Run the command with stdout and stderr on one terminal of so many columns; its exit code and what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=known | {"TERM": "xterm"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 1 << 16):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=120), shown.decode().replace("\r\n", "\n")


def test_a_search_in_a_pipe_finds_a_finding(worse: tuple[str, ...], tmp_path: Path) -> None:
    done = shell(f"{' '.join(COMMAND)} {' '.join(worse)} | grep -F '{FOUND}'", tmp_path, COLUMNS="40")
    assert (done.returncode, done.stderr) == (1, "")
    assert FOUND in done.stdout


@pytest.mark.parametrize("arguments", ["--help", "selftest --list", "--version"])
def test_a_reader_of_one_line_ends_help_without_a_word(arguments: str, tmp_path: Path) -> None:
    done = shell(f"{' '.join(COMMAND)} {arguments} | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_of_one_line_changes_no_verdict(worse: tuple[str, ...], tmp_path: Path) -> None:
    done = shell(f"{' '.join(COMMAND)} {' '.join(worse)} | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("$ theworld-validate regress ")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_of_any_width_ends_with_the_verdict(worse: tuple[str, ...], tmp_path: Path, width: int) -> None:
    """The place of the report, which stderr has, comes before it."""
    code, shown = on_a_terminal((*worse, "--output", "out"), tmp_path, width)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert code == 1
    assert max(map(len, plain.splitlines())) <= width
    assert plain.index("report: out/report.html") < plain.index("FAILED: ") < plain.index("likeliest cause: ")
    assert "\x1b[1;31m" in shown


def test_no_color_has_no_colour(worse: tuple[str, ...], tmp_path: Path) -> None:
    _, shown = on_a_terminal(worse, tmp_path, 80, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", shown)
    assert "FAILED: " in shown


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ("parity", "--dtype", "flot"),
            ("--dtype: 'flot' is not one of 'bfloat16'", "theworld-validate parity --help"),
        ),
        (("parit",), ("no such command 'parit'. Did you mean 'parity'", "theworld-validate --help")),
        (("parity", "--candidat", "x"), ("--candidat: there is no such option; did you mean --candidate?",)),
        (("parity", "--zzz"), ("--zzz: there is no such option; see theworld-validate parity --help",)),
        (("parity", "--seed"), ("--seed", "requires an argument")),
        (("regress",), ("BASELINE is missing; give theworld-validate regress BASELINE CURRENT",)),
        (("releases",), ("--versions is missing; give theworld-validate releases --versions ...",)),
        (("memory", "predict", "--batch", "x"), ("--batch: input should be a valid integer", "predict --help")),
        (("memory", "predct"), ("no such command 'predct'", "predict", "theworld-validate memory --help")),
        (("diff", "a", "b", "c\nd"), ("unexpected extra argument", "theworld-validate diff --help")),
    ],
    ids=range(10),
)
def test_wrong_usage_is_one_line_that_names_it_and_the_fix(arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert_input_error(invoke(*arguments), *parts)


def test_help_has_commands_by_what_people_do() -> None:
    """Every command is in a panel, and the panels are in their order."""
    shown = invoke("--help").stdout
    panels = [commands.COMPARE, commands.AUDIT, commands.TRAINING, commands.RELEASES, commands.TOOL]
    places = [shown.index(panel) for panel in panels]
    assert places == sorted(places)
    assert "─ Commands ─" not in shown
    assert places[0] < shown.index("│ parity ") < shown.index("│ diff ") < places[1] < shown.index("│ buffers ")
    assert places[-1] < shown.index("│ doctor ")
    for words in ((), ("parity",), ("memory", "predict"), ("synth",)):
        shown = invoke(*words, "--help").stdout
        assert "<bool>" not in shown
        assert re.search(r"│ --(quiet|help) .* (Print|Show|Write) ", shown)
    own = invoke("parity", "--help").stdout
    assert own.index("--candidate") < own.index(commands.REPORTED) < own.index("--json")
    assert own.index(commands.LOADED) < own.index("--dtype")


def test_help_names_every_group_of_checks() -> None:
    from theworld_validate.suite import GROUPS

    words = re.findall(r"[a-z]+", invoke("--help").stdout)
    assert set(GROUPS) <= set(words)
