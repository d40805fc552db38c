"""Results: only passed passes, and JSON is JSON."""

import json

import pytest

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.documents.report import report_to_json
from theworld_validate.rendering.json_text import render_json
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
        ([Status.FAILED, Status.ERROR], Status.ERROR, 4),
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
    made = Report(command="x", started_at="now", seconds=1.0, checks=(check,))
    report = report_to_json(made)
    assert json.loads(json.dumps(report, allow_nan=False)) == json.loads(render_json(made)) == report
    assert report["checks"][0]["measurements"] == {"x": "inf", "y": 1.5}
    assert report["checks"][0]["findings"][0]["actual"] == "nan"
    assert report["verdict"] == report["checks"][0]["status"] == "failed"


def test_a_finding_is_named_by_its_code_and_place() -> None:
    root = Finding(code="buffers.dtype", location="a.b", message="m")
    follows = Finding(code="trace.digest", location="c", message="m", explained_by=root.key)
    assert (root.key, follows.explained_by) == ("buffers.dtype@a.b", "buffers.dtype@a.b")
    assert (root.severity, root.explained_by) == ("error", None)


def test_the_nearest_known_name_is_offered() -> None:
    assert did_you_mean("txt", ["text", "image"]) == "; did you mean text?"
    assert did_you_mean("zzz", ["text"]) == ""
    assert did_you_mean("zzz", ["text"], otherwise="; see --list") == "; see --list"
