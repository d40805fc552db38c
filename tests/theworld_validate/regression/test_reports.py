"""Report against report: each kind of regression is planted, and found; what cannot be compared is no pass."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.regression.reports import (
    ENVIRONMENT,
    ERROR,
    PEAK,
    SUBJECT,
    WARNING,
    cell,
    good_report,
    make_check,
    with_cell,
    with_check,
    with_measurements,
)
from theworld_validate.documents.report import read_report
from theworld_validate.regression.limits import Limits
from theworld_validate.regression.reports import compare_reports
from theworld_validate.results import CheckResult, Environment, Finding, Report, Row, Status, combine

ROOT = Path(__file__).parents[3]
SAME = "the environments are the same: the code, the checkpoint or the options changed"
WITH_TIME = Limits(time_growth=0.2)


def compare(baseline: Report, current: Report, limits: Limits = WITH_TIME) -> dict[str, CheckResult]:
    return {check.id.removeprefix("regress."): check for check in compare_reports(baseline, current, limits)}


def verdict(baseline: Report, current: Report, limits: Limits = WITH_TIME) -> Status:
    return combine([check.status for check in compare_reports(baseline, current, limits)])


def lose_a_check(report: Report) -> Report:
    return replace(report, checks=(report.checks[0], *report.checks[2:]))


def find_something(report: Report) -> Report:
    return with_check(report, "parity.parameters", lambda check: replace(check, findings=(WARNING,)))


def count(number: int | None) -> Callable[[Report], Report]:
    return lambda report: with_measurements(report, "parity.parameters", {"tensors_compared": number})


def table(*rows: Row) -> Callable[[Report], Report]:
    return lambda report: with_measurements(report, "params.components", {"components": list(rows)})


def take_longer(report: Report) -> Report:
    return with_check(report, "parity.parameters", lambda check: replace(check, seconds=13.0))


@pytest.mark.parametrize(
    ("plant", "place", "message"),
    [
        (lose_a_check, "checks", "params.components: the check was passed, is missing"),
        (find_something, "findings", "new warning: dtype is bfloat16"),
        (count(144), "counts", "tensors_compared was 145, is 144"),
        (count(None), "counts", "tensors_compared was 145, is None"),
        (
            table({"component": "lm_head", "parameters": 6, "tied": True}),
            "counts",
            "components[lm_head]: parameters was 5, is 6",
        ),
        (
            table({"component": "lm_head", "parameters": 5, "tied": 1}),
            "counts",
            "components[lm_head]: tied was True, is 1",
        ),
        (table(), "counts", "components[lm_head]: parameters was 5, is missing"),
        (
            lambda report: with_cell(report, peak_allocated_bytes=PEAK * 103 // 100),
            "memory",
            "peak_allocated_bytes was 1000000000, is 1030000000",
        ),
        (lambda report: with_cell(report, peak_allocated_bytes=None), "memory", "was 1000000000, is None"),
        (lambda report: with_cell(report, peak_allocated_bytes=0), "memory", "was 1000000000, is 0"),
        (lambda report: with_cell(report, peak_allocated_bytes=-5), "memory", "was 1000000000, is -5"),
        (lambda report: with_cell(report, peak_allocated_bytes="much"), "memory", "is much"),
        (lambda report: with_cell(report, batch=2), "memory", "is missing"),
        (take_longer, "time", "parity.parameters: time over the calibration run was 500.0, is 650.0"),
    ],
)
def test_a_planted_regression_is_found(plant: Callable[[Report], Report], place: str, message: str) -> None:
    checks = compare(good_report(), plant(good_report()))
    assert [name for name, check in checks.items() if check.status is Status.FAILED] == [place]
    (finding, *_) = checks[place].findings
    assert message in finding.message
    assert finding.cause == SAME
    assert finding.remedy is not None


def test_equal_reports_pass_and_better_ones_do() -> None:
    assert verdict(good_report(), good_report()) is Status.PASSED
    worse = take_longer(with_cell(good_report(), peak_allocated_bytes=PEAK * 2))
    assert verdict(worse, good_report()) is Status.PASSED


@pytest.mark.parametrize("status", [Status.FAILED, Status.ERROR, Status.INCONCLUSIVE])
def test_a_current_report_that_did_not_pass_is_no_pass(status: Status) -> None:
    current = with_check(good_report(), "parity.parameters", lambda check: replace(check, status=status))
    for baseline in (good_report(), current):  # even where the baseline was no better
        assert verdict(baseline, current) in (Status.FAILED, Status.INCONCLUSIVE)
    checks = compare(good_report(), current)
    assert f"status was passed, is {status}" in checks["checks"].findings[0].message
    expected = Status.INCONCLUSIVE if status is Status.INCONCLUSIVE else Status.FAILED
    assert checks["verdict"].status is expected


def test_what_follows_from_a_new_finding_names_it() -> None:
    def fail(check: CheckResult) -> CheckResult:
        return replace(check, status=Status.FAILED, findings=(ERROR,), measurements={})

    checks = compare(good_report(), with_check(good_report(), "parity.parameters", fail))
    (new,) = checks["findings"].findings
    assert (new.cause, new.remedy, new.explained_by) == ("the model was cast", "load it anew", None)
    (status,) = checks["checks"].findings
    (missing,) = checks["counts"].findings
    (own,) = checks["verdict"].findings
    assert status.explained_by == new.key
    assert missing.explained_by == status.key == own.explained_by


def test_a_new_check_that_fails_is_an_error_and_one_that_passes_a_warning() -> None:
    new = make_check("parity.new")
    passing = replace(good_report(), checks=(*good_report().checks, new))
    (finding,) = compare(good_report(), passing)["checks"].findings
    assert finding.severity == "warning"
    failing = replace(passing, checks=(*good_report().checks, replace(new, status=Status.FAILED)))
    (finding,) = compare(good_report(), failing)["checks"].findings
    assert finding.severity == "error"
    assert compare(good_report(), failing)["verdict"].findings[0].explained_by == finding.key


def test_a_warning_that_has_become_an_error_is_new() -> None:
    def found(finding: Finding) -> Report:
        return with_check(good_report(), "parity.parameters", lambda check: replace(check, findings=(finding,)))

    assert verdict(found(WARNING), found(WARNING)) is Status.PASSED
    assert compare(found(WARNING), found(ERROR))["findings"].status is Status.FAILED


def test_what_the_baseline_did_not_measure_is_counted() -> None:
    baseline = with_cell(count(None)(good_report()), peak_allocated_bytes=None)
    checks = compare(baseline, good_report())
    assert checks["memory"].measurements == {"compared": 0, "not_compared": 1}
    assert checks["memory"].status is Status.SKIPPED
    assert checks["counts"].measurements["not_compared"] == 2  # a count, and whether the cell fits


def test_rows_of_the_same_name_are_told_apart() -> None:
    rows: list[Row] = [{"component": "x", "parameters": 1}, {"component": "x", "parameters": 2}]
    assert compare(table(*rows)(good_report()), table(*rows)(good_report()))["counts"].status is Status.PASSED
    (finding,) = compare(table(*rows)(good_report()), table(rows[0])(good_report()))["counts"].findings
    assert "components[x]#2: parameters was 2, is missing" in finding.message


@pytest.mark.parametrize(
    "make",
    [
        lambda report: replace(report, checks=()),
        lambda report: replace(report, checks=tuple(replace(c, status=Status.SKIPPED) for c in report.checks)),
    ],
    ids=["no checks", "all skipped"],
)
def test_nothing_compared_is_inconclusive(make: Callable[[Report], Report]) -> None:
    empty = make(good_report())
    assert verdict(empty, empty) is Status.INCONCLUSIVE
    assert verdict(empty, good_report()) is Status.INCONCLUSIVE
    assert verdict(good_report(), empty) is not Status.PASSED


def foreign(**changes: Any) -> Callable[[Report], Report]:
    return lambda report: replace(report, environment=replace(ENVIRONMENT, **changes))


def other(**changes: Any) -> Callable[[Report], Report]:
    return lambda report: replace(report, subjects=(replace(SUBJECT, **changes),))


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        (foreign(packages={**ENVIRONMENT.packages, "torch": "9.9"}), "environment", "torch was 2.13.0, is 9.9"),
        (foreign(gpu="H200"), "environment", "gpu was None, is H200"),
        (foreign(python="3.12.1"), "environment", "python was 3.11, is 3.12"),
        (lambda report: replace(report, environment=None), "environment", "does not say where it was made"),
        (lambda report: replace(report, command="theworld-validate parity"), "baseline", "this is of"),
        (other(target="mine:Model"), "subjects", "candidate's target was theworld:TheWorld, is mine:Model"),
        (other(checkpoint_digest="abd"), "subjects", "candidate's checkpoint digest was abc, is abd"),
        (other(dtype="float32"), "subjects", "candidate's dtype was bfloat16, is float32"),
        (other(device="cuda"), "subjects", "candidate's device was cpu, is cuda"),
        (other(attn="eager"), "subjects", "candidate's attn was None, is eager"),
        (other(seed=1), "subjects", "candidate's seed was 0, is 1"),
        (lambda report: replace(report, subjects=()), "subjects", "the current report does not name what it is about"),
        (
            lambda report: replace(report, subjects=(SUBJECT, replace(SUBJECT, role="reference"))),
            "subjects",
            "reference was None",
        ),
    ],
)
def test_what_is_about_something_else_is_for_reading(
    change: Callable[[Report], Report], place: str, reason: str
) -> None:
    current = change(count(144)(good_report()))
    checks = compare(good_report(), current)
    assert checks[place].status is Status.INCONCLUSIVE
    assert reason in (checks[place].reason or "")
    assert checks["counts"].status is Status.INCONCLUSIVE
    assert checks["counts"].reason == f"for reading only, see regress.{place}"
    assert len(checks["counts"].findings) == 1  # shown all the same
    assert verdict(good_report(), current) is Status.INCONCLUSIVE


def test_a_checkpoint_in_another_place_is_the_same_if_its_content_is() -> None:
    assert verdict(good_report(), other(checkpoint="/there/gemma")(good_report())) is Status.PASSED
    unread, moved = other(checkpoint_digest=None), other(checkpoint_digest=None, checkpoint="/there")
    assert verdict(unread(good_report()), moved(good_report())) is Status.INCONCLUSIVE


def test_a_baseline_that_failed_is_none() -> None:
    failed = with_check(good_report(), "parity.parameters", lambda check: replace(check, status=Status.FAILED))
    checks = compare(failed, good_report())
    assert checks["baseline"].status is Status.INCONCLUSIVE
    assert "it is failed, and only a report that passed can be a baseline" in (checks["baseline"].reason or "")
    assert verdict(failed, good_report()) is Status.INCONCLUSIVE


def test_the_environment_explains_a_change() -> None:
    current = foreign(packages={**ENVIRONMENT.packages, "accelerate": "9.9"})(count(144)(good_report()))
    (finding,) = compare(good_report(), current)["counts"].findings
    assert finding.cause == "accelerate was None, is 9.9"


def test_time_is_shown_and_only_judged_where_it_is_asked_for() -> None:
    check = compare(good_report(), take_longer(good_report()), Limits())["time"]
    assert check.status is Status.SKIPPED
    rows: Any = check.measurements["times"]
    assert [row["step"] for row in rows] == ["the whole command", "parity.parameters"]
    assert rows[1]["over_calibration_ratio"] == pytest.approx(1.3)
    assert verdict(good_report(), take_longer(good_report()), Limits()) is Status.PASSED


def calibrated(seconds: float | None) -> Environment:
    return replace(ENVIRONMENT, calibration_seconds=seconds)


@pytest.mark.parametrize(
    ("calibration", "status"),
    [(0.02 * 1.3, Status.PASSED), (0.02 * 3.1, Status.INCONCLUSIVE), (None, Status.INCONCLUSIVE)],
)
def test_a_slower_machine_is_no_regression_and_another_one_no_measure(
    calibration: float | None, status: Status
) -> None:
    current = replace(take_longer(good_report()), environment=calibrated(calibration), seconds=39.0)
    assert compare(good_report(), current)["time"].status is status


def test_the_limits_are_the_users() -> None:
    current = take_longer(with_cell(good_report(), peak_allocated_bytes=PEAK * 103 // 100))
    wide = Limits(memory_growth=0.05, time_growth=0.5)
    assert verdict(good_report(), current, wide) is Status.PASSED
    tight = Limits(memory_growth=0.0)
    assert verdict(good_report(), with_cell(good_report(), peak_allocated_bytes=PEAK + 1), tight) is Status.FAILED


def test_memory_that_there_was_none_of_is_more() -> None:
    one, other = (
        with_measurements(good_report(), "memory.predict", {"cells": [cell(temporaries_bytes=size)]}) for size in (0, 5)
    )
    assert compare(one, one)["memory"].status is Status.PASSED
    assert compare(one, other)["memory"].status is Status.FAILED


def test_hostile_text_of_a_report_stays_on_one_line() -> None:
    hostile = replace(ERROR, location="a\nb\x1b[31m", message="x\n::error::y")
    current = with_check(good_report(), "parity.parameters", lambda check: replace(check, findings=(hostile,)))
    for check in compare(good_report(), current).values():
        for finding in check.findings:
            assert finding.message.isprintable()
            assert finding.location.isprintable()


@pytest.mark.parametrize("path", sorted(ROOT.glob("reports/cpu-tiny/*/report.json")), ids=lambda path: path.parent.name)
def test_the_kept_baseline_can_be_read(path: Path) -> None:
    report = read_report(path)
    assert verdict(report, report) is Status.PASSED
