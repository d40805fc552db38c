"""In a project of somebody else's, with a `validation` folder of its own: pytest, the plugin and the command work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from theworld.synthetic import SyntheticCheckpoint

_TEST = """
import validation
from validation.rules import ANSWER

def test_its_own_package():
    assert ANSWER == 42
    assert validation.__file__.startswith({folder!r})

def test_parity(theworld_parity):
    assert {{check.status for check in theworld_parity("candidates:right", probes=["text"])}} == {{"passed"}}

def test_a_fault(theworld_parity):
    theworld_parity("candidates:in_train_mode", probes=["text"])
"""
_CANDIDATES = """
from transformers import Gemma3ForConditionalGeneration

def right(checkpoint, **arguments):
    return Gemma3ForConditionalGeneration.from_pretrained(checkpoint, **arguments)

def in_train_mode(checkpoint, **arguments):
    return right(checkpoint, **arguments).train()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "__init__.py").touch()
    (tmp_path / "validation" / "rules.py").write_text("ANSWER = 42\n")
    (tmp_path / "candidates.py").write_text(_CANDIDATES)
    (tmp_path / "test_it.py").write_text(_TEST.format(folder=str(tmp_path)))
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_pytest_and_the_plugin(project: Path, tiny: SyntheticCheckpoint) -> None:
    done = run(project, "-m", "pytest", "-q", "--theworld-gate", "--theworld-model", str(tiny.gemma))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "1 failed" in done.stdout
    assert "training is True, expected False" in done.stdout


def test_the_command(project: Path, tiny: SyntheticCheckpoint) -> None:
    arguments = ("parity", "--probe", "text", "--model", str(tiny.gemma), "--candidate", "candidates:right")
    done = run(project, "-m", "theworld_validate", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
