"""Whatever a candidate does, it is a failed check that says so, the report is whole, and nothing makes it pass."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.cli.test_cases_documents import read_all_forms, read_terminal_and_annotations
from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.rendering.form_readers import assert_printable
from tests.theworld_validate.rendering.test_hostile_text import HOSTILE
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.cli.session import NOT_WRITTEN

_HERE = "tests.theworld_validate.cli.misbehaving_candidates:"


def parity(tiny: SyntheticCheckpoint, candidate: str, *options: object) -> Any:
    arguments = ("--model", tiny.gemma, "--probe", "text", "--candidate", _HERE + candidate)
    return invoke("parity", *arguments, *options)


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        ("exits_with_0", "exit code 0"),
        ("exits_at_once", "exit code 0"),
        ("becomes_another_program", "exit code 0"),
        ("dies", "SIGSEGV"),
        ("raises_a_base_exception", "Unusual"),
        ("raises_generator_exit", "GeneratorExit"),
        ("raises_runtime_error", "RuntimeError"),
        ("raises_stop_iteration", "StopIteration"),
        ("exits_in_forward", "exit code 0"),
    ],
)
def test_it_is_a_failed_check_that_says_what_happened(
    tiny: SyntheticCheckpoint, tmp_path: Path, candidate: str, says: str
) -> None:
    output = tmp_path / "report"
    result = parity(tiny, candidate, "--json", "--output", output)
    assert result.exit_code == 1, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((output / "report.json").read_text())
    assert report["verdict"] == "failed"
    found = [finding for check in report["checks"] for finding in check["findings"] if says in finding["message"]]
    assert len(found) == 1
    assert "unknown" not in found[0]["cause"]
    assert {subject["role"] for subject in report["subjects"]} == {"reference", "candidate"}
    assert "internal error" not in result.stderr
    assert not [check for check in report["checks"] if check["status"] == "error"]


def test_an_older_report_that_passed_does_not_stay(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    output = tmp_path / "report"
    assert invoke("parity", "--model", tiny.gemma, "--probe", "text", "--output", output).exit_code == 0
    assert parity(tiny, "exits_with_0", "--output", output).exit_code == 1
    assert json.loads((output / "report.json").read_text())["verdict"] == "failed"
    assert "passed" not in (output / "report.md").read_text().splitlines()[0]


def test_a_deadline(tiny: SyntheticCheckpoint) -> None:
    result = parity(tiny, "hangs", "--timeout", "8")
    assert result.exit_code == 1
    assert "--timeout" in result.stdout


def test_what_it_prints_is_in_the_report_and_not_on_stdout(tiny: SyntheticCheckpoint) -> None:
    result = parity(tiny, "prints_megabytes", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    (candidate,) = [subject for subject in report["subjects"] if subject["role"] == "candidate"]
    assert candidate["printed_bytes"] > 5_000_000
    assert candidate["printed"].startswith("noise noise")
    assert len(candidate["printed"]) < 20_000


@pytest.mark.parametrize("candidate", ["takes_stdout_away", "changes_directory"])
def test_what_it_does_to_its_own_process_reaches_nobody(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = parity(tiny, candidate, "--json", "--output", "relative")
    assert result.exit_code == 0, result.stdout
    assert json.loads(result.stdout)["verdict"] == "passed"
    assert (tmp_path / "relative" / "report.html").is_file()


def test_a_deleted_output_folder_is_made_again(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "report"
    monkeypatch.setenv("THEWORLD_TEST_OUTPUT", str(output))
    assert parity(tiny, "deletes_the_output", "--output", output).exit_code == 0
    assert json.loads((output / "report.json").read_text())["verdict"] == "passed"


def test_patching_the_judge_changes_nothing(tiny: SyntheticCheckpoint) -> None:
    result = parity(tiny, "patches_the_judge")
    assert result.exit_code == 1
    assert "layers.3.mlp.down_proj.weight" in "".join(result.stdout.split())


@pytest.mark.parametrize("candidate", ["changes_the_default_dtype", "switches_gradients_off", "changes_the_threads"])
def test_global_state_is_a_failure_and_not_inconclusive(tiny: SyntheticCheckpoint, candidate: str) -> None:
    result = parity(tiny, candidate, "--json")
    assert result.exit_code == 1, result.stdout
    checks = {check["id"]: check["status"] for check in json.loads(result.stdout)["checks"]}
    assert checks["parity.globals"] == "failed"
    assert checks["parity.control"] == "passed"


def test_an_error_in_forward_costs_the_probe_and_not_the_rest(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    result = parity(tiny, "raises_in_forward", "--json", "--output", tmp_path / "o")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["parity.parameters"]["status"] == "passed"
    assert checks["parity.probe.text"]["status"] == "failed"
    assert "\x1b" not in (tmp_path / "o" / "report.md").read_text()


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        ("takes_too_few_arguments", "cannot load: loaders are called with (checkpoint, dtype=...)"),
        ("returns_nothing", "returned None; a loader returns the model that it loaded"),
        ("Unloadable", "is a class without from_pretrained"),
        ("A_NUMBER", "is no function, but of type int"),
        ("no_such_name", "has no 'no_such_name'"),
        ("OUTPUT", "is no function, but of type"),
    ],
)
def test_what_is_no_loader_is_one_line(tiny: SyntheticCheckpoint, candidate: str, says: str) -> None:
    assert_input_error(parity(tiny, candidate), candidate, says)


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("def this is(", 2, "importing module 'candidate_module' raises SyntaxError"),
        ("raise ImportError('needs x')", 2, "importing module 'candidate_module' raises ImportError: needs x"),
        ("import nowhere_to_be", 2, "importing module 'candidate_module' raises ModuleNotFoundError"),
        ("raise RuntimeError('boom')", 2, "importing module 'candidate_module' raises RuntimeError: boom"),
        ("import sys; sys.exit(0)", 1, "exit code 0"),
        ("import os; os._exit(0)", 1, "exit code 0"),
    ],
)
def test_a_module_that_cannot_be_imported(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: int, says: str
) -> None:
    (tmp_path / "candidate_module.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    arguments = ("--model", tiny.gemma, "--probe", "text", "--candidate", "candidate_module:Model")
    result = invoke("parity", *arguments)
    if code == 2:
        assert_input_error(result, "candidate_module:Model", says)
    else:
        assert (result.exit_code, result.stderr) == (code, f"{NOT_WRITTEN}\n")
        assert says in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    "candidate",
    [
        "os:path",
        "os:system",
        "..:x",
        ".theworld:TheWorld",
        "theworld:__doc__",
        "builtins:exit",
        "builtins:print",
        "builtins:object",
        "posix:abort",
        "no colon",
        "no_such_module:x",
    ],
)
def test_what_is_no_target_is_one_line(tiny: SyntheticCheckpoint, candidate: str) -> None:
    result = invoke("parity", "--model", tiny.gemma, "--probe", "text", "--candidate", candidate)
    assert_input_error(result, candidate.partition(":")[0])


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THEWORLD_TEST_TEXT", json.dumps(text))


TEXTS = {name: HOSTILE[name] for name in ("script", "comment", "ansi", "annotation", "controls", "surrogate", "bidi")}


@pytest.mark.parametrize("name", [*TEXTS, "crlf", "long", "markup", "markdown"])
def test_hostile_text_while_loading_is_one_clean_line(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    say(monkeypatch, HOSTILE[name])
    result = parity(tiny, "raises_a_text_while_loading", "--json")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {_HERE}raises_a_text_while_loading cannot load {tiny.gemma}: ")
    assert_printable(line)
    assert len(line) < 2100
    assert json.loads(result.stdout)["verdict"] == "error"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    ("candidate", "check_id"),
    [
        ("raises_a_text_in_forward", "parity.probe.text"),
        ("is_named_after_a_text", "parity.modules"),
        ("prints_a_text", "parity.parameters"),
    ],
)
def test_hostile_text_of_a_candidate_changes_no_form(
    tiny: SyntheticCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    candidate: str,
    check_id: str,
    name: str,
) -> None:
    say(monkeypatch, TEXTS[name])
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = parity(tiny, candidate, "--output", tmp_path / "report")
    assert result.exit_code == 1, result.output
    read_terminal_and_annotations(result)
    report = read_all_forms(tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert check_id in [check["id"] for check in report["checks"] if check["status"] == "failed"]
    assert not [check for check in report["checks"] if check["status"] == "error"]
