"""Whatever fails, what was found is in report.json: each group of checks, each form and the disk, in turn."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.theworld_validate.cli.test_cases_process import files_limited_to
from tests.theworld_validate.command_line import invoke
from theworld_validate import suite
from theworld_validate.rendering import folder as folder_module
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Audit

IN_ALL = [group.id for group in suite.TABLE if "gpu" not in group.needs]
FORMS = {"render_markdown": "report.md", "render_html": "report.html", "render_junit": "junit.xml"}
FIGURES = {"memory.predict.split.svg", "memory.predict.timeline.svg"}
ALL_FILES = {"report.json", *FORMS.values(), *FIGURES}
DISK_FULL = OSError(28, "No space left on device")
ERRORS = [RuntimeError("boom\n::error::x"), KeyError("x"), MemoryError(), RecursionError("deep"), AssertionError()]


def check_of(name: str) -> CheckResult:
    workload = {"configuration": "x", "world_tokens": 1, "text_tokens": 1, "batch": 1}
    measurements: dict[str, Any] = {"compared": 1}
    if name == "memory":  # whose figures are drawn
        measurements["splits"] = [{**workload, "parameters_bytes": 5, "activations_bytes": 7}]
        measurements["timelines"] = [{**workload, "bytes": [1, 2, 3]}]
    check_id = {"memory": "memory.predict"}.get(name, f"{name}.all")
    return CheckResult(id=check_id, status=Status.PASSED, seconds=0.0, measurements=measurements)


@pytest.fixture(autouse=True)
def _quick_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group of the bare command, with one check that takes no time."""
    for name, group in suite.GROUPS.items():
        monkeypatch.setitem(suite.GROUPS, name, replace(group, work=_passing(name), audit=None))


def _passing(name: str) -> Callable[..., Iterator[CheckResult]]:
    def work(*_: Any) -> Iterator[CheckResult]:
        yield check_of(name)

    return work


def statuses(folder: Path) -> dict[str, str]:
    report = json.loads((folder / "report.json").read_text())
    return {check["id"]: check["status"] for check in report["checks"]}


ALL_PASSED = {check_of(name).id: "passed" for name in IN_ALL}


def test_nothing_fails(tmp_path: Path) -> None:
    result = invoke("--output", tmp_path)
    assert (result.exit_code, result.stderr) == (0, f"report: {tmp_path}/report.html\n")
    assert statuses(tmp_path) == ALL_PASSED
    assert {path.name for path in tmp_path.iterdir()} == ALL_FILES


@pytest.mark.parametrize("name", IN_ALL)
def test_a_group_that_raises_costs_that_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    error = ERRORS[IN_ALL.index(name) % len(ERRORS)]

    def work(*_: Any) -> Iterator[CheckResult]:
        yield check_of(name)
        raise error

    monkeypatch.setitem(suite.GROUPS, name, replace(suite.GROUPS[name], work=work, audit=None))
    result = invoke("--output", tmp_path)
    assert result.exit_code == 4
    assert statuses(tmp_path) == ALL_PASSED | {f"{name}.internal": "error"}
    report = json.loads((tmp_path / "report.json").read_text())
    (broken,) = [check for check in report["checks"] if check["id"] == f"{name}.internal"]
    assert broken["reason"].startswith(f"an error of the harness itself: {type(error).__name__}")
    assert broken["reason"].isprintable()
    assert {path.name for path in tmp_path.iterdir()} == ALL_FILES
    assert "Traceback" not in result.stderr
    assert f"{type(error).__name__}" in invoke("--output", tmp_path, "--debug").stderr


@pytest.mark.parametrize("name", IN_ALL)
def test_what_was_found_before_a_wrong_input_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def work(*_: Any) -> Iterator[CheckResult]:
        raise InputError("--only x: wrong\n")
        yield

    monkeypatch.setitem(suite.GROUPS, name, replace(suite.GROUPS[name], work=work, audit=None))
    result = invoke("--output", tmp_path)
    assert result.exit_code == 2
    before = {check_of(group).id: "passed" for group in IN_ALL[: IN_ALL.index(name)]}
    if before:
        assert statuses(tmp_path) == before | {"input": "error"}
        assert result.stderr.splitlines()[0] == f"report: {tmp_path}/report.html"
    else:
        assert list(tmp_path.iterdir()) == []
    assert result.stderr.splitlines()[-1] == "error: --only x: wrong\\n"


@pytest.mark.parametrize("error", [InputError("--only x: wrong"), RuntimeError("broken")], ids=["input", "harness"])
def test_groups_of_one_job_keep_what_the_others_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    job = Job(name="files", function="tests.theworld_validate.workers.misbehaving_jobs:checks")
    quick = Audit(job=replace(job, arguments={"names": ("files.all",), "seconds": 0.0}))

    def broken(*_: Any) -> Audit:
        raise error

    monkeypatch.setitem(suite.GROUPS, "files", replace(suite.GROUPS["files"], work=None, audit=lambda *_: quick))
    monkeypatch.setitem(suite.GROUPS, "world", replace(suite.GROUPS["world"], work=None, audit=broken))
    result = invoke("--only", "files", "--only", "world", "--output", tmp_path)
    assert result.exit_code == (2 if isinstance(error, InputError) else 4)
    assert statuses(tmp_path)["files.all"] == "passed"


@pytest.mark.parametrize(
    "error", [*ERRORS, OSError(28, "No space left on device")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("renderer", FORMS)
def test_a_form_that_fails_costs_that_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, renderer: str, error: Exception
) -> None:
    assert invoke("--output", tmp_path).exit_code == 0  # an older form, that must not stay beside a newer report
    monkeypatch.setattr(folder_module, renderer, _raising(error))
    result = invoke("--output", tmp_path)
    assert result.exit_code == 0
    assert_all_but(tmp_path, {FORMS[renderer]}, result)


def _raising(error: Exception) -> Callable[..., Any]:
    def render(*_: Any, **__: Any) -> Any:
        raise error

    return render


def assert_all_but(folder: Path, lost: set[str], result: Result) -> None:
    """The report is whole, a line names each form that is lost, and the others are there."""
    assert statuses(folder) == ALL_PASSED
    assert {path.name for path in folder.iterdir()} == ALL_FILES - lost
    report = json.loads((folder / "report.json").read_text())
    assert set(report["files"]) == ALL_FILES - lost
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(result.stderr.splitlines()) - 1
    assert all(any(name in line for line in warnings) for name in lost - FIGURES)
    assert all(line.isprintable() for line in warnings)
    assert "PASSED: 9 of 9 checks passed" in result.stdout


def test_figures_that_cannot_be_planned_cost_the_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder_module, "plan_figures", _raising(ValueError("boom")))
    result = invoke("--output", tmp_path)
    assert result.exit_code == 0
    assert_all_but(tmp_path, FIGURES, result)
    assert "warning: figures: not drawn (ValueError: boom)" in result.stderr


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_figure_that_fails_costs_that_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    plan = folder_module.plan_figures
    monkeypatch.setattr(
        folder_module, "plan_figures", lambda report: {**plan(report), name: _raising(ValueError("boom"))}
    )
    result = invoke("--output", tmp_path)
    assert result.exit_code == 0
    assert_all_but(tmp_path, {name}, result)
    assert name in result.stderr


@pytest.mark.parametrize(
    "place", ["theworld_validate.rendering.console.print_report", "theworld_validate.rendering.github.tell_github"]
)
def test_a_form_of_the_terminal_that_fails_leaves_the_report_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """What was to be shown was not, so it is no pass; the other of the two is done all the same."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setattr(place, _raising(ValueError("boom")))
    result = invoke("--output", tmp_path / "report")
    assert result.exit_code == 4
    assert "internal error: ValueError: boom\n" in result.stderr
    assert statuses(tmp_path / "report") == ALL_PASSED
    assert {path.name for path in (tmp_path / "report").iterdir()} == ALL_FILES
    if "console" in place:
        assert summary.read_text().startswith("# theworld-validate: passed")
    else:
        assert "PASSED: 9 of 9 checks passed" in result.stdout


def test_a_disk_that_fills_up_at_every_size(tmp_path: Path) -> None:
    """With ever less room forms are lost; where report.json is, the old report stays whole, with all its forms."""
    assert invoke("--output", tmp_path / "a").exit_code == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "a").iterdir()}
    # Times are printed with as many digits as they have, so a form is a few bytes longer or shorter each time.
    for i, room in enumerate(sorted({size * 9 // 10 for size in sizes.values()}, reverse=True)):
        output = tmp_path / str(i)
        assert invoke("--only", "params", "--output", output).exit_code == 0
        before = {path.name: path.read_bytes() for path in output.iterdir()}
        with files_limited_to(room):
            result = invoke("--output", output)
        assert "PASSED: 9 of 9 checks passed" in result.stdout
        lost = {name for name, size in sizes.items() if size > room}
        if "report.json" in lost:
            assert result.exit_code == 2
            (line,) = result.stderr.splitlines()
            assert line == f"error: --output {output}: cannot write there (File too large); name another folder"
            assert {path.name: path.read_bytes() for path in output.iterdir()} == before
        else:
            assert result.exit_code == 0
            assert_all_but(output, lost, result)
        assert not list(output.glob(".*"))
