"""What the documents mention and no test can run here (a network, a user's own model) has at least the right names.

Every `theworld-validate` line of a shell block or a code span: its command and its options exist. Every session of nox
and every script that is named is there.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from theworld_validate.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "reports").glob("**/README.md")),
)
COMMAND: Any = typer.main.get_command(app)
SESSIONS = set(re.findall(r"^def ([a-z_]+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))


def unknown_options(line: str) -> list[str]:
    """The words of a command line that name no command or option of the product."""
    words = shlex.split(line.partition("#")[0])[1:]
    command = COMMAND
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    is_group = bool(getattr(command, "commands", None))
    wrong = [word for word in words[:1] if is_group and not word.startswith("-") and not word.isupper()]
    return wrong + [word for word in words if re.match(r"--[a-z]", word) and word.partition("=")[0] not in known]


def shown_lines(text: str) -> list[str]:
    """Every line of a shell block, and every code span, that begins with the program's name."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`(theworld-validate [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [match[1] for line in lines if (match := re.search(r"\b(theworld-validate [^|&]*)", line))]
    return [line for line in found + [" ".join(span.split()) for span in spans] if "..." not in line]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [(line, unknown) for line in shown_lines(text) if (unknown := unknown_options(line))] == []
    assert set(re.findall(r"nox -s ([a-z_]+)", text)) <= SESSIONS
    scripts = re.findall(r"\b(?:benchmarks|tools|(?<=python )examples)/[a-z_/]+\.py\b", text)
    modules = [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks\.[a-z_]+)", text)]
    assert [name for name in (*scripts, *modules) if not (ROOT / name).is_file()] == []


def test_wrong_names_are_seen() -> None:
    text = "`theworld-validate parity --candidat x:y`\n```sh\ntheworld-validate memory predict --sweeps batch\n```"
    assert [unknown_options(line) for line in shown_lines(text)] == [["--sweeps"], ["--candidat"]]
    assert unknown_options("theworld-validate paritee --model x") == ["paritee"]
    assert unknown_options("theworld-validate memory predicts") == ["predicts"]
    assert unknown_options("theworld-validate --only parity --output reports/latest") == []
