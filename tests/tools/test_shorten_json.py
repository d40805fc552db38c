"""Committed JSON is written anew without a value changed, or left alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "shorten_json.py"


def shorten(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *paths], capture_output=True, text=True, check=False)


def test_files_of_a_folder_become_short_and_hold_the_same(tmp_path: Path) -> None:
    values = {"rows": [{"name": "a", "bytes": 1, "share": 0.1}] * 40, "numbers": [1, 2.0, None] * 40}
    path = tmp_path / "deep" / "report.json"
    path.parent.mkdir()
    path.write_text(json.dumps(values, indent=1))
    before = path.read_text().count("\n")
    ended = shorten(tmp_path)
    after = path.read_text()
    assert ended.stdout == f"{path}: {before:,} lines, now {after.count(chr(10)):,}\n", ended.stderr
    assert after.count("\n") < 50
    assert repr(json.loads(after)) == repr(values)
    assert shorten(path).stdout == ""


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "{"])
def test_what_would_lose_something_is_left(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    ended = shorten(path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {path}: ")
    assert ended.stderr.endswith("left as it is\n")
    assert path.read_text() == text
