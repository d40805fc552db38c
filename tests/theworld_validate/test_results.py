"""Results: only passed passes, and JSON is JSON."""

import json

import pytest

from theworld_validate.results import CheckResult, Finding, Report, Status, combine, exit_code


@pytest.mark.parametrize(
    ("statuses", "verdict", "code"),
    [
        ([Status.PASSED, Status.PASSED], Status.PASSED, 0),
        ([Status.PASSED, Status.SKIPPED], Status.PASSED, 0),
        ([Status.SKIPPED], Status.INCONCLUSIVE, 3),
        ([], Status.INCONCLUSIVE, 3),
        ([Status.PASSED, Status.INCONCLUSIVE], Status.INCONCLUSIVE, 3),
        ([Status.INCONCLUSIVE, Status.FAILED, Status.PASSED], Status.FAILED, 1),
        ([Status.FAILED, Status.ERROR], Status.ERROR, 1),
    ],
)
def test_verdict(statuses: list[Status], verdict: Status, code: int) -> None:
    assert combine(statuses) is verdict
    assert exit_code(verdict) == code


def test_json_has_no_nan() -> None:
    finding = Finding(code="a.b", location="x", message="m", actual=float("nan"))
    check = CheckResult(
        id="c", status=Status.FAILED, seconds=1.0, measurements={"x": float("inf"), "y": 1.5}, findings=(finding,)
    )
    report = Report(command="x", started_at="now", seconds=1.0, environment={}, checks=(check,)).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["checks"][0]["measurements"] == {"x": "inf", "y": 1.5}
    assert report["checks"][0]["findings"][0]["actual"] == "nan"
    assert report["verdict"] == report["checks"][0]["status"] == "failed"
