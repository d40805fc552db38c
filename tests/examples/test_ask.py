"""The command of docs/world.md that asks about a video, and what it says of one that it cannot read."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.theworld.clips.videos import write_sound, write_video
from theworld.synthetic import SyntheticCheckpoint

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import ask  # pyrefly: ignore[missing-import]

    return ask.main


def shown_command() -> list[str]:
    lines = (ROOT / "docs" / "world.md").read_text(encoding="utf-8").splitlines()
    (command,) = [line.strip() for line in lines if line.startswith("    python examples/ask.py")]
    return shlex.split(command)[2:]


def test_the_documented_command_answers(
    ask: Any, tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_video(Path("clip.mp4"), num_frames=4)
    here = {"tiny/gemma": str(tiny.gemma), "tiny/cosmos": str(tiny.cosmos)}
    command = [here.get(word, word) for word in shown_command()]
    assert ask([*command, "--max-new-tokens", "4", "--length", "drop"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out) > 1  # random weights may well answer with line breaks
    assert printed.err.startswith(
        "video: 4 frames in 0.25 s (read by PyAV), sampled at 16 a second, 64 x 48 to 224 x 224"
    )
    write_sound(Path("clip.wav"))
    assert ask([{"clip.mp4": "clip.wav"}.get(word, word) for word in command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: clip.wav: holds no video (audio alone); give a file with pictures"
