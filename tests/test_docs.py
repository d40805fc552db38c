"""What the documents show is run: every command line, and the example of a new fault."""

import re
import shlex
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.cli import app
from theworld_validate.faults.catalogue import CATALOGUE

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
COMMANDS = sorted(
    {
        line.strip()
        for document in DOCUMENTS
        for line in document.read_text(encoding="utf-8").splitlines()
        if line.startswith("    theworld-validate ")
    }
)


def in_this_place(command: str, tiny: SyntheticCheckpoint) -> list[str]:
    """The command's arguments, with what the reader has put in for what is here."""
    words = shlex.split(command)[1:]
    put_in = {
        "google/gemma-3-4b-it": str(tiny.gemma),
        "my_package:MyModel": "theworld:TheWorld",
        "cuda": "cpu",
    }
    for i, word in enumerate(words):
        words[i] = put_in.get(word, word)
        if word == "DIR":
            words[i] = str(tiny.cosmos if words[i - 1] == "--cosmos" else tiny.gemma)
    return words


def test_the_documents_show_commands() -> None:
    assert len(COMMANDS) >= 8
    assert needed_by("theworld-validate diff before.json before.json") == [
        "theworld-validate fingerprint --output before.json"
    ]


def needed_by(command: str) -> list[str]:
    """The commands that write what a command reads, one for each file."""
    words = shlex.split(command)
    read = [word for i, word in enumerate(words) if words[i - 1] != "--output"]
    writers = {word: [c for c in COMMANDS if f"--output {word}" in c] for word in read}
    return [min(those, key=len) for those in writers.values() if those]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_shown_passes(
    command: str, tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clip.npy", np.random.default_rng(0).uniform(-1, 1, (3, 5, 32, 32)).astype(np.float32))
    for step in (*needed_by(command), command):
        result = CliRunner().invoke(app, in_this_place(step, tiny))
        # What needs a GPU says so where there is none, and does not pass.
        expected = 3 if "memory measure" in step and not torch.cuda.is_available() else 0
        assert result.exit_code == expected, f"{step}: {result.output}"


def test_the_example_of_a_fault_is_caught(tiny: SyntheticCheckpoint) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(@fault.*?)```", text, re.DOTALL)
    imports = "from typing import Any\nfrom theworld_validate.compare.causes import Cause\n"
    imports += "from theworld_validate.faults.base import fault, text_model\n"
    before = set(CATALOGUE)
    with mock.patch.dict(CATALOGUE):
        exec(imports + example, {})  # the document's own code
        (name,) = CATALOGUE.keys() - before
        result = CliRunner().invoke(app, ["selftest", "--model", str(tiny.gemma), "--fault", name, "--quiet"])
    assert result.exit_code == 0, result.output
