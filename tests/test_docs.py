"""What the documents show is run: every command line, the Python example, and the example of a new fault."""

import functools
import html
import importlib.metadata
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM

import theworld_validate
from tests.theworld_validate.command_line import invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.cli import app
from theworld_validate.cli.commands import PANELS
from theworld_validate.faults import selftest
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.faults.loader import FaultySubject

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
TUTORIALS = {  # the exit codes of what they alone show; what other pages show too is run there
    "prove-my-wrapper": [1, 0],
    "predict-memory": [],
    "upgrade-safely": [0, 0, 0, 0, 0, 0],
}
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    {
        line.strip()
        for document in DOCUMENTS
        for line in document.read_text(encoding="utf-8").splitlines()
        if line.startswith("    theworld-validate ")
    }
)
FLOAT32 = ("--dtype", "float32")  # many times faster where a processor has no bfloat16
ENOUGH = {  # of what takes long
    "parity": ("--probe", "text", *FLOAT32),
    "fingerprint": FLOAT32,
    "world": FLOAT32,
    "buffers": FLOAT32,
    "selftest": FLOAT32,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of another family."""
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def in_this_place(command: str, tiny: SyntheticCheckpoint, llama: Path) -> list[str]:
    """The command's arguments, with what the reader has put in for what is here."""
    words = shlex.split(command)[1:]
    put_in = {
        "google/gemma-3-4b-it": str(tiny.gemma),
        "my_package:MyModel": "theworld:TheWorld",
        "cuda": "cpu",
        "LLAMA": str(llama),
        "tiny/gemma": str(tiny.gemma),
    }
    for i, word in enumerate(words):
        words[i] = put_in.get(word, word)
        if word == "DIR":
            words[i] = str(tiny.cosmos if words[i - 1] == "--cosmos" else tiny.gemma)
    return [*words, *ENOUGH.get(words[0], ())]


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
    command: str, tiny: SyntheticCheckpoint, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clip.npy", np.random.default_rng(0).uniform(-1, 1, (3, 5, 32, 32)).astype(np.float32))
    for step in (*needed_by(command), command):
        result = invoke(*in_this_place(step, tiny, llama))
        # What needs a GPU says so where there is none, and does not pass.
        expected = 3 if "memory measure" in step and not torch.cuda.is_available() else 0
        assert result.exit_code == expected, f"{step}: {result.output}"


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_does_what_it_says(
    name: str, tiny: SyntheticCheckpoint, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands, from the first to the last in one folder, each with the exit code that the page gives."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    steps = re.findall(
        r'^    (theworld-validate [^\n]*)$|```python title="(\S+)"\n(.*?)```', text, re.MULTILINE | re.DOTALL
    )
    assert any(command for command, _, _ in steps)
    codes = iter(TUTORIALS[name])
    for command, file, code in steps:
        if file:
            Path(file).write_text(code, encoding="utf-8")
        if file or command in COMMANDS:
            continue
        words = in_this_place(command, tiny, llama)
        if "wrapper:load" in words and "--output" not in words:  # whose fault is a cast from float32
            words = words[: -len(FLOAT32)]
        for name_, value in (("COLUMNS", "100"), ("FORCE_COLOR", "1")):  # as tools/make_figures.py has it
            monkeypatch.setenv(name_, value)
        result = invoke(*words)
        assert result.exit_code == next(codes), f"{command}: {result.output}"
        if result.exit_code == 1:
            assert_the_picture_shows(result.stdout)
    assert list(codes) == []


def assert_the_picture_shows(printed: str) -> None:
    """Hold the figure against a run of the versions that it was drawn with: from its plan on, line by line.

    Only times are left out, and what the kernels of a processor decide: how many numbers that follow from the fault
    differ, by how much, and which of the two kinds of rotary embedding is named for it.
    """
    svg = (ROOT / "docs" / "figures" / "failing-parity.svg").read_text(encoding="utf-8")
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text)))
    drawn = ["".join(text for _, text in sorted(rows[y])) for y in sorted(rows)]
    shown = re.sub(r"\x1b\[[\d;]*m", "", printed).splitlines()
    told, seen = (normal_lines(lines) for lines in (drawn, shown))
    assert "parity.buffers:model.language_model.rotary_emb.full_attention_inv_freq:dtypeisbfloat16,expected" in told
    versions = ("transformers", "torch", "diffusers")
    libraries = next(line for line in drawn if "libraries" in line)
    if all(f"{name} {importlib.metadata.version(name)}" in libraries.replace("\xa0", " ") for name in versions):
        assert told == seen
    else:  # another release has another number of things to compare
        assert [re.sub(r"\d+", "N", line) for line in told if line.startswith("parity.")] == [
            re.sub(r"\d+", "N", line) for line in seen if line.startswith("parity.")
        ]


def normal_lines(lines: list[str]) -> list[str]:
    """From the plan on, without white space, times, bars and counts of numbers that differ."""
    joined = ["".join(line.split()) for line in lines]
    begin = next(i for i, line in enumerate(joined) if line.startswith("plan:"))
    varying = (
        r"(?<=,in)[\d.]+(?=s$)|[▁▂▃▄▅▆▇█]+|(?<=firstof)\d+of\d+(?=places)|(?<=rotary_emb\()[a-z]+(?=_attention\)\[)"
    )
    return [re.sub(varying, "#", line) for line in joined[begin:] if line]


def commands_of(group: Any, prefix: str = "") -> list[str]:
    """The names of all commands that there are."""
    found = [f"{prefix}{command.name or command.callback.__name__}" for command in group.registered_commands]
    for inner in group.registered_groups:
        found += commands_of(inner.typer_instance, f"{inner.name} ")
    return found


def shown_in_the_table() -> list[list[str]]:
    """The words of every command in the README's table, less the program's name."""
    _, table = README.split("## Validate a model\n")
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `theworld-validate")]
    shown = [shlex.split(command) for cell in cells for command in re.findall(r"`([^`]+)`", cell)]
    return [words[1:] if words[0] == "theworld-validate" else words for words in shown]


def test_the_readme_lists_every_command_and_no_other() -> None:
    names = [words[:2] if words[0] == "memory" else words[:1] for words in shown_in_the_table() if words]
    assert sorted(" ".join(name) for name in names) == sorted(commands_of(app))
    ordered = list(dict.fromkeys(name[0] for name in names))
    group: Any = typer.main.get_command(app)
    assert ordered == group.list_commands(typer.Context(group))  # by what people do, as --help has them
    table = README.split("## Validate a model\n")[1]
    assert re.findall(r"^\| \*\*(.*)\*\* \| \|$", table, re.MULTILINE) == list(PANELS)


@pytest.mark.parametrize("name", ["files", "synth", "doctor"])
def test_a_command_of_the_table_alone_passes(
    name: str, tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (words,) = [words for words in shown_in_the_table() if words[:1] == [name]]
    folder = str(tiny.gemma) if name == "files" else "made"
    result = invoke(*[folder if word == "DIR" else word for word in words])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "made").is_dir() == (name == "synth")


def test_the_python_example_prints_checks_that_pass(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n([^`]*check_parity[^`]*)```", README)
    code = example.replace("google/gemma-3-4b-it", str(tiny.gemma)).replace("my_package:MyModel", "theworld:TheWorld")
    assert code.count(str(tiny.gemma)) == code.count("theworld:TheWorld") == 1
    check_parity: Callable[..., Any] = theworld_validate.check_parity
    monkeypatch.setattr(theworld_validate, "check_parity", functools.partial(check_parity, probes=("text",)))
    exec(code, {})  # the document's own code
    printed = capsys.readouterr().out.splitlines()
    assert "parity.probe.text passed" in printed
    assert "parity.round_trip passed" in printed
    assert {line.split()[1] for line in printed} == {"passed"}


def test_the_sample_prints_an_answer_and_what_trains(
    tiny: SyntheticCheckpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    (sample,) = re.findall(r"```python\n([^`]*TheWorld\.from_pretrained[^`]*)```", README)
    here = {
        "google/gemma-3-4b-it": str(tiny.gemma),
        "nvidia/Cosmos-Predict2-2B-Video2World": str(tiny.cosmos),
        "dtype=torch.bfloat16": "dtype=torch.float32",
        "max_new_tokens=16": "max_new_tokens=4",
    }
    for shown, put_in in here.items():
        assert sample.count(shown) == 1
        sample = sample.replace(shown, put_in)
    exec(sample, {})  # the document's own code
    printed = capsys.readouterr().out
    assert printed.startswith("answer: ")
    assert re.search(r"^[\d,]{4,} of [\d,]{6,} parameters train \(\d+\.\d\d %\)$", printed, re.MULTILINE), printed


def test_figures_of_the_readme_are_those_of_the_comparison() -> None:
    comparison = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    rows = [line.split(" |")[:4] for line in README.splitlines() if " of 73 |" in line]
    measured = {tuple(line.split(" |")[:4]) for line in comparison.splitlines()}
    assert len(rows) == 7
    assert {tuple(row) for row in rows} <= measured
    caught = {row[0].strip("| `"): int(row[1].split(" of ")[0]) for row in rows}
    opening = " ".join(README.split("##")[0].split())
    logits = caught["torch.equal` of logits"]
    assert f"of 73 faults of a catalogue of our own, comparing logits sees {logits} and" in opening
    assert f"comparing answers {caught['greedy tokens, 8 a prompt']}; this sees all" in opening
    assert caught["theworld-validate parity"] == 73
    assert_errors_of_memory_are_the_worst_measured()
    for memory in ("| 0.02 % |", "| 28 % |"):
        assert memory in comparison
        assert f"median error of {memory.strip('| ')}" in README or f"has {memory.strip('| ')}" in README


def assert_errors_of_memory_are_the_worst_measured() -> None:
    """The README's worst errors of what is reserved, against every table of docs/memory.md that has measured ones."""
    text = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    of_matrix, beside = [], []
    for table in tables:
        head = table.splitlines()[0]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        if "allocated" in head and "reserved" in head:
            beside += [float(error) for row in rows for error in re.findall(r"-?[\d.]+(?= %)", row[-1])]
        elif "worst" in head:
            (worst,) = [row[-1] for row in rows if row[0] == "reserved"]
            of_matrix += [float(error) for error in re.findall(r"[\d.]+(?= %)", worst)]
        elif "prediction is off by" in head:
            beside += [float(error) for row in rows for error in re.findall(r"reserved ([\d.]+) %", row[-1])]
    assert (len(of_matrix), len(beside)) == (2, 32)
    said = " ".join(README.split())
    worst_beside = max(map(abs, beside))
    assert f"at worst {max(of_matrix)} % in the [matrix of 112 training steps]" in said
    assert f"and at worst {worst_beside} % of all that was measured beside it" in said
    assert f"the reserved peak is off by up to {worst_beside} %" in " ".join(text.split())


def example_of_a_fault() -> str:
    """The code that CONTRIBUTING.md shows, with the imports that its file has."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(@fault.*?)```", text, re.DOTALL)
    imports = "from typing import Any\nfrom theworld_validate.compare.causes import Cause\n"
    return imports + "from theworld_validate.faults.base import fault, text_model\n" + example


@dataclass(frozen=True, slots=True, kw_only=True)
class WithTheExample(FaultySubject):
    """A faulty subject in whose worker the example stands in the catalogue too."""

    def load(self) -> Any:
        exec(example_of_a_fault(), {})  # the document's own code
        return FaultySubject.load(self)


def test_the_example_of_a_fault_is_caught(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "FaultySubject", WithTheExample)
    before = set(CATALOGUE)
    with mock.patch.dict(CATALOGUE):
        exec(example_of_a_fault(), {})
        (name,) = CATALOGUE.keys() - before
        shown = f"theworld-validate selftest --fault {name}"
        assert shown in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        result = invoke("selftest", *FLOAT32, "--model", tiny.gemma, "--fault", name, "--quiet")
    assert result.exit_code == 0, result.output
