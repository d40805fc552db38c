"""Report against report: each kind of regression is planted, and found; a foreign baseline is no pass."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.cli.test_cli import assert_input_error, invoke
from tests.theworld_validate.rendering.sample_reports import failing_check, make_report, memory_check
from theworld_validate.regression.baselines import key_name, read_limits
from theworld_validate.regression.reports import Limits, compare_reports
from theworld_validate.results import CheckResult, InputError, Status

Report = dict[str, Any]


def good_report() -> Report:
    parity = CheckResult(
        id="parity.parameters", status=Status.PASSED, seconds=10.0, measurements={"tensors_compared": 145}
    )
    params = CheckResult(
        id="params.components",
        status=Status.PASSED,
        seconds=0.1,
        measurements={"components": [{"component": "lm_head", "parameters": 5, "tied": True}]},
    )
    return make_report([parity, params, memory_check()])


def check_of(report: Report, check_id: str) -> Any:
    return next(check for check in report["checks"] if check["id"] == check_id)


def fail_a_check(report: Report) -> None:
    check_of(report, "parity.parameters")["status"] = "inconclusive"


def lose_a_check(report: Report) -> None:
    report["checks"].pop(1)


def find_something(report: Report) -> None:
    (check,) = make_report([failing_check()])["checks"]
    check_of(report, "parity.parameters")["findings"] = [{**check["findings"][0], "severity": "warning"}]


def count_less(report: Report) -> None:
    check_of(report, "parity.parameters")["measurements"]["tensors_compared"] = 144


def count_less_in_a_table(report: Report) -> None:
    check_of(report, "params.components")["measurements"]["components"][0]["parameters"] = 6


def lose_a_row(report: Report) -> None:
    check_of(report, "params.components")["measurements"]["components"] = []


def take_more_memory(report: Report) -> None:
    check_of(report, "memory.predict")["measurements"]["cells"][0]["peak_allocated_bytes"] *= 1.03


def take_longer(report: Report) -> None:
    check_of(report, "parity.parameters")["seconds"] *= 1.3


@pytest.mark.parametrize(
    ("plant", "place", "message"),
    [
        (fail_a_check, "checks", "parity.parameters: status was passed, is inconclusive"),
        (lose_a_check, "checks", "params.components: the check was passed, is missing"),
        (find_something, "findings", "new warning: dtype is bfloat16"),
        (count_less, "counts", "tensors_compared was 145, is 144"),
        (count_less_in_a_table, "counts", "components[lm_head]: parameters was 5, is 6"),
        (lose_a_row, "counts", "components[lm_head]: parameters was 5, is missing"),
        (take_more_memory, "memory", "peak_allocated_bytes was 1000000000, is 1030000000"),
        (take_longer, "time", "parity.parameters: time over the calibration run was 500.0, is 650.0"),
    ],
)
def test_a_planted_regression_is_found(plant: Callable[[Report], None], place: str, message: str) -> None:
    baseline, current = good_report(), good_report()
    plant(current)
    checks = {check.id: check for check in compare_reports(baseline, current, Limits())}
    failed = [name for name, check in checks.items() if check.status is Status.FAILED]
    assert failed == [f"regress.{place}"]
    (finding, *_) = checks[f"regress.{place}"].findings
    assert message in finding.message
    assert finding.cause == "the environments are the same: the code, the checkpoint or the options changed"


def test_equal_reports_pass_and_better_ones_do() -> None:
    baseline, current = good_report(), good_report()
    assert {check.status for check in compare_reports(baseline, current, Limits())} == {Status.PASSED}
    take_longer(baseline)
    take_more_memory(baseline)
    fail_a_check(baseline)
    assert {check.status for check in compare_reports(baseline, current, Limits())} == {Status.PASSED}


def test_a_slower_machine_is_no_regression() -> None:
    baseline, current = good_report(), good_report()
    take_longer(current)
    current["environment"] = {**current["environment"], "calibration_seconds": 0.02 * 1.3}
    current["seconds"] *= 1.3
    assert all(check.status is Status.PASSED for check in compare_reports(baseline, current, Limits()))


def test_the_environment_explains_a_change() -> None:
    baseline, current = good_report(), good_report()
    count_less(current)
    current["environment"] = copy.deepcopy(current["environment"])
    current["environment"]["packages"]["accelerate"] = "9.9"
    (finding,) = next(c for c in compare_reports(baseline, current, Limits()) if c.findings).findings
    assert finding.cause == "accelerate was None, is 9.9"


@pytest.mark.parametrize("change", [lambda e: e["packages"].update(torch="9.9"), lambda e: e.update(gpu="H200")])
def test_a_foreign_baseline_is_inconclusive(change: Callable[[Any], None]) -> None:
    baseline, current = good_report(), good_report()
    current["environment"] = copy.deepcopy(current["environment"])
    change(current["environment"])
    checks = compare_reports(baseline, current, Limits())
    assert {check.status for check in checks} == {Status.INCONCLUSIVE}
    assert "another environment" in (checks[0].reason or "")


def write(path: Path, report: Report) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report))
    return path


def test_the_command_gates_and_updates(tmp_path: Path) -> None:
    current = write(tmp_path / "current" / "report.json", good_report()).parent
    baselines = tmp_path / "baselines"
    assert_input_error(invoke("regress", baselines, current), "no such baseline", "--update")
    result = invoke("regress", baselines, current, "--update")
    assert result.exit_code == 0, result.output
    assert (baselines / key_name(good_report()["environment"]) / "report.json").is_file()
    assert invoke("regress", baselines, current).exit_code == 0

    worse = good_report()
    lose_a_check(worse)
    changed = write(tmp_path / "worse.json", worse)
    result = invoke("regress", baselines, changed)
    assert result.exit_code == 1
    assert "is missing" in result.stdout
    result = invoke("regress", baselines, changed, "--update")
    assert result.exit_code == 0
    assert "is missing" in result.stdout  # the difference is shown
    assert invoke("regress", baselines, changed).exit_code == 0

    foreign = good_report()
    foreign["environment"] = {**foreign["environment"], "machine": "arm64"}
    result = invoke("regress", baselines, write(tmp_path / "foreign.json", foreign))
    assert result.exit_code == 3
    assert "no baseline of this environment" in " ".join(result.stdout.split())


def test_budgets_are_the_users(tmp_path: Path) -> None:
    file = tmp_path / "budget.toml"
    file.write_text("[memory]\ngrowth = 0.05\n[time]\ngrowth = 0.5\nmin_seconds = 1\n")
    assert read_limits(file) == Limits(memory_growth=0.05, time_growth=0.5, min_seconds=1.0)
    assert read_limits(None) == Limits()
    baseline, current = good_report(), good_report()
    take_more_memory(current)
    take_longer(current)
    statuses = {check.status for check in compare_reports(baseline, current, read_limits(file))}
    assert statuses == {Status.PASSED}
    tight = replace(Limits(), memory_growth=0.0)
    assert Status.FAILED in {check.status for check in compare_reports(baseline, current, tight)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[memory]\ngroth = 1\n", "unknown key memory.groth; there are memory.growth, time.growth, time.min_seconds"),
        ("memory = 1\n", "unknown key memory; there are"),
        ("[time]\ngrowth = 'much'\n", "time.growth must be a number from 0, got 'much'"),
        ("[[", "not readable as TOML"),
    ],
)
def test_a_wrong_budget_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "budget.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_limits(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not readable as a report"), ("[]", "not a report of theworld-validate"), ("{}", "its schema must be")],
)
def test_a_wrong_report_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    good = write(tmp_path / "good.json", good_report())
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    assert_input_error(invoke("regress", good, bad), "bad.json", message)
    assert_input_error(invoke("regress", bad, good), "bad.json", message)
    assert_input_error(invoke("regress", good, tmp_path / "none.json"), "none.json", "not readable")
