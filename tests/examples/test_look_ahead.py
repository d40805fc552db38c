"""The two commands of docs/world.md: a clip to an answer, and by way of predicted steps."""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_clip
from tests.theworld.clips.videos import write_sound, write_video
from theworld.synthetic import SyntheticCheckpoint

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def look_ahead(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import look_ahead  # pyrefly: ignore[missing-import]

    yield look_ahead
    del sys.modules["look_ahead"]


def shown_commands() -> list[list[str]]:
    lines = (ROOT / "docs" / "world.md").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("    python examples/look_ahead.py")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_documented_command_answers_about_a_video(
    look_ahead: Any, tiny: SyntheticCheckpoint, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(Path("clip.mp4"), num_frames=4)
    here = {"tiny/gemma": str(tiny.gemma), "tiny/cosmos": str(tiny.cosmos)}
    asking, _ = shown_commands()
    command = [here.get(word, word) for word in asking]
    assert look_ahead.main([*command, "--max-new-tokens", "4", "--length", "drop"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out) > 1  # random weights may well answer with line breaks
    assert printed.err.startswith(
        "video: 4 frames in 0.25 s (read by PyAV), sampled at 16 a second, 64 x 48 to 224 x 224"
    )


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "mpeg4"), ("clip.webm", "libvpx-vp9")])
def test_the_second_documented_command_looks_ahead_of_a_video_and_names_the_guardrails(
    look_ahead: Any,
    tiny: SyntheticCheckpoint,
    whole_cosmos: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    codec: str,
) -> None:
    """Of the eight steps that are documented, one: what is left is the same eight times, of 784 tokens each."""
    write_video(Path(name), num_frames=1, codec=codec)
    here = {"tiny/gemma": str(tiny.gemma), "tiny/cosmos": str(whole_cosmos), "clip.mp4": name, "8": "1"}
    _, looking = shown_commands()
    assert looking[looking.index("--steps") + 1] == "8"
    command = [here.get(word, word) for word in looking]
    assert look_ahead.main([*command, "--denoising-steps", "2", "--max-new-tokens", "4"]) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert "read by PyAV" in printed.err
    assert "guardrail video: was not called" in printed.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--safety-checker", "cosmos_guardrail"], "pip install 'theworld[guardrail]'"),
        (["--steps", "1000000000"], "max_world_steps"),
        (["--steps", "-1"], "num_world_steps must be a whole number"),
        (["--clip", "nowhere.npy"], "nowhere.npy"),
        (["--clip", "clip.wav"], "clip.wav: holds no video (audio alone); give a file with pictures"),
        (["--fps", "0"], "world_fps"),
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
    write_sound(Path("clip.wav"))
    asked = ["--model", str(tiny.gemma), "--cosmos", str(whole_cosmos), "--clip", "clip.npy", "--steps", "1"]
    assert look_ahead.main([*asked, *changes]) == 2
    *notes, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("look_ahead: ")
    assert message in line
    assert not any(note.startswith("look_ahead: ") for note in notes)
