"""The command of docs/world.md: a clip, predicted steps, an answer."""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_clip
from theworld.synthetic import SyntheticCheckpoint

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def look_ahead(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import look_ahead  # pyrefly: ignore[missing-import]

    yield look_ahead
    del sys.modules["look_ahead"]


def shown_command() -> list[str]:
    lines = (ROOT / "docs" / "world.md").read_text(encoding="utf-8").splitlines()
    (command,) = [line.strip() for line in lines if line.startswith("    python examples/look_ahead.py")]
    return shlex.split(command)[2:]


def test_the_documented_command_answers_and_names_the_guardrails(
    look_ahead: Any,
    tiny: SyntheticCheckpoint,
    whole_cosmos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clip.npy", make_clip(5, side=64).numpy())
    here = {"tiny/gemma": str(tiny.gemma), "tiny/cosmos": str(whole_cosmos), "clip.mp4": "clip.npy"}
    command = [here.get(word, word) for word in shown_command()]
    assert "--steps" in command
    quick = ["--denoising-steps", "2", "--max-new-tokens", "4"]
    assert look_ahead.main([*command, *quick]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip()
    assert "guardrail video: was not called" in printed.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--safety-checker", "cosmos_guardrail"], "pip install 'theworld[guardrail]'"),
        (["--steps", "1000000000"], "max_world_steps"),
        (["--clip", "nowhere.npy"], "nowhere.npy"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    look_ahead: Any,
    tiny: SyntheticCheckpoint,
    whole_cosmos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clip.npy", make_clip(1, side=64).numpy())
    asked = ["--model", str(tiny.gemma), "--cosmos", str(whole_cosmos), "--clip", "clip.npy", "--steps", "1"]
    assert look_ahead.main([*asked, *changes]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
