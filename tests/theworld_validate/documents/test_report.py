"""Reports as JSON: written and read back, the first schema read, and what is wrong refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from theworld_validate.documents.report import parse_report, read_report, report_schema, report_to_json
from theworld_validate.results import SCHEMA, CheckResult, Environment, Finding, InputError, Plan, Report, Status

REPORTS = Path(__file__).parents[3] / "reports"
PUBLISHED = Path(__file__).parents[3] / "validation/theworld_validate/documents/report.schema.json"


def make_report(**changes: Any) -> Report:
    finding = Finding(code="buffers.dtype", location="x", message="m", expected=1, actual=2.5, section="buffers")
    failed = CheckResult(id="parity.buffers", status=Status.FAILED, seconds=0.25, findings=(finding,))
    passed = CheckResult(
        id="parity.config",
        status=Status.PASSED,
        seconds=1.0,
        measurements={"a_bytes": 3, "rows": [{"a": 1}, {"b": "x"}]},
    )
    values: dict[str, Any] = {
        "command": "theworld-validate parity",
        "command_line": "theworld-validate parity --model x",
        "started_at": "2026-11-25T12:00:00+00:00",
        "seconds": 2.0,
        "environment": Environment(python="3.11.7", packages={"torch": "2.13.0"}),
        "plan": Plan(sections=("config",), probes=("text",)),
        "checks": (failed, passed),
        "files": ("report.json", "report.md"),
    }
    return Report(**{**values, **changes})


def as_json(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(report_to_json(make_report(**changes))))


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    report = make_report()
    (tmp_path / "report.json").write_text(json.dumps(report_to_json(report)))
    assert read_report(tmp_path) == report
    assert read_report(tmp_path / "report.json") == report


def test_infinity_becomes_text() -> None:
    check = CheckResult(
        id="a", status=Status.PASSED, seconds=0.0, measurements={"x": float("inf"), "y": [{"z": float("nan")}]}
    )
    written = json.dumps(report_to_json(make_report(checks=(check,))), allow_nan=False)
    assert parse_report(json.loads(written), source="f").checks[0].measurements == {"x": "inf", "y": [{"z": "nan"}]}


def test_the_published_schema_is_generated_from_the_types() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json.loads(json.dumps(report_schema()))


def test_committed_reports_of_the_first_schema_are_read() -> None:
    paths = [*REPORTS.glob("**/report.json")]
    assert paths
    for path in paths:
        assert read_report(path).checks


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def do(values: dict[str, Any]) -> None:
        place: Any = values
        for part in path[:-1]:
            place = place[part]
        if to is KeyError:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return do


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change("schema", to="x"), "field schema"),
        (change("verdict", to="passed"), "field verdict is 'passed', and its checks make it 'failed'"),
        (change("verdict", to=None), "field verdict"),
        (change("checks", to="none"), "field checks"),
        (change("checks", 0, "status", to=KeyError), "checks[0].status"),
        (change("checks", 0, "status", to="fine"), "checks[0].status"),
        (change("checks", 0, "seconds", to=-1), "checks[0].seconds"),
        (change("checks", 0, "measurements", to=[]), "checks[0].measurements"),
        (change("checks", 0, "findings", to=[{}]), "checks[0].findings[0].code"),
        (change("checks", 0, "id", to="parity.config"), "two checks have the id parity.config"),
        (change("checks", 0, "id", to="../../etc"), "check id"),
        (change("checks", 1, "measurements", "a_bytes", to=1.5), "a_bytes"),
        (change("checks", 1, "measurements", "a_bytes", to="x"), "a_bytes"),
        (change("environment", to=[]), "environment"),
        (change("environment", "packages", to=["torch"]), "environment.packages"),
        (change("environment", "gpu", to=5), "environment.gpu"),
        (change("environment", "gpu", to="x" * 5000), "environment.gpu"),
        (change("environment", "calibration_seconds", to=-1.0), "environment.calibration_seconds"),
        (change("files", to=["../x"]), "field files"),
        (change("unknown", to=1), "unknown"),
    ],
)
def test_what_is_wrong_is_named(damage: Callable[[dict[str, Any]], None], named: str) -> None:
    values = as_json()
    damage(values)
    with pytest.raises(InputError) as caught:
        parse_report(values, source="r.json")
    assert str(caught.value).startswith("r.json: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SCHEMA in report_schema()["properties"]["schema"]["const"]
