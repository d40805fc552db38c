"""Damaged reports: refused in one line or read, and never a pass where evidence vanished or there was no pass."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.mutations import SETTINGS, damaged, is_refused, refused_or
from theworld_validate.documents.fingerprint import read_fingerprint
from theworld_validate.documents.report import parse_report, read_report, report_to_json
from theworld_validate.regression.command import compare_with_baseline
from theworld_validate.results import (
    CheckResult,
    Environment,
    Finding,
    InputError,
    Plan,
    Report,
    Status,
    SubjectRecord,
    combine,
)

WARNING = Finding(
    code="buffers.device", severity="warning", location="model.inv_freq", message="on cpu", section="buffers",
    field="device", expected="cuda", actual="cpu", cause="it was moved", remedy="move it back",
)  # fmt: skip
ERROR = Finding(code="parameters.digest", location="lm_head.weight", message="differs", cause="a bit", remedy="mend it")
CHECKS = (
    CheckResult(id="parity.parameters", status=Status.PASSED, seconds=7.0,
                measurements={"tensors_compared": 145, "compared_bytes": 3_561_560}),
    CheckResult(id="parity.buffers", status=Status.PASSED, seconds=0.1, measurements={"compared": 4, "share": 0.25},
                findings=(WARNING,)),
    CheckResult(id="parity.probe.text", status=Status.PASSED, seconds=0.5,
                measurements={"probe": "text", "outputs_compared": 12, "divergence": {}, "is_whole": True}),
    CheckResult(id="params.components", status=Status.PASSED, seconds=0.0, measurements={
        "components": [{"component": "lm_head", "parameters": 5, "tied": True},
                       {"component": "vision_tower", "parameters": 7, "tied": False}]}),
    CheckResult(id="memory.predict", status=Status.PASSED, seconds=6.0, measurements={
        "compared": 1, "losses": [1.5, 1.25],
        "cells": [{"configuration": "projection", "world_tokens": 784, "batch": 1, "peak_allocated_bytes": 10**9,
                   "step_seconds": 0.5, "curve": [0, 5, 10]}]}),
    CheckResult(id="memory.measure", status=Status.SKIPPED, reason="no CUDA device", seconds=0.0),
)  # fmt: skip
FAILED = CheckResult(id="parity.round_trip", status=Status.FAILED, seconds=0.5, findings=(ERROR,))


def make_report(*checks: CheckResult) -> Report:
    return Report(
        command="theworld-validate parity",
        command_line="theworld-validate parity --model x",
        started_at="2026-11-25T12:00:00+00:00",
        seconds=20.0,
        environment=Environment(
            python="3.11.7", platform="Linux", machine="x86_64", cpu_count=2, torch_threads=2,
            packages={"torch": "2.13.0", "transformers": "5.23.0", "accelerate": None}, calibration_seconds=0.02,
        ),
        subjects=(
            SubjectRecord(role="candidate", target="theworld:TheWorld", checkpoint="/here/gemma",
                          checkpoint_digest="ab" * 16, dtype="bfloat16", device="cpu", printed="hi", printed_bytes=2),
        ),
        plan=Plan(sections=("parameters", "buffers"), probes=("text",)),
        checks=checks,
        files=("report.json", "report.md"),
    )  # fmt: skip


def as_values(report: Report) -> dict[str, Any]:
    return json.loads(json.dumps(report_to_json(report)))


PASSING, FAILING = make_report(*CHECKS), make_report(*CHECKS, FAILED)
LIMITS = "[memory]\ngrowth = 0.1\n[time]\ngrowth = 0.5\nmin_seconds = 1.0\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    (folder / "passing.json").write_text(json.dumps(as_values(PASSING)))
    (folder / "failing.json").write_text(json.dumps(as_values(FAILING)))
    (folder / "limits.toml").write_text(LIMITS)
    return folder


def verdict(folder: Path, baseline: str, current: str) -> Status:
    checks = compare_with_baseline(folder / baseline, folder / current, budget=folder / "limits.toml")
    return combine([check.status for check in checks])


def evidence(report: Report) -> Counter[tuple[object, ...]]:
    """All that a report shows to have been measured: checks with their statuses, and every count and figure by name."""
    found: Counter[tuple[object, ...]] = Counter()
    for check in report.checks:
        found[check.id, check.status] += 1
        for table, lines in [("", [check.measurements]), *check.measurements.items()]:
            for row in lines if isinstance(lines, list) else ():
                for name, value in row.items() if isinstance(row, dict) else ():
                    if isinstance(value, (bool, int)) and not name.endswith(("_bytes", "_seconds")) and name != "batch":
                        found[check.id, table, name, type(value), value] += 1
                    elif isinstance(value, (int, float)):
                        found[check.id, table, name] += 1
    return found


def test_undamaged_reports_are_held_against_each_other(folder: Path) -> None:
    assert verdict(folder, "passing.json", "passing.json") is Status.PASSED
    assert verdict(folder, "passing.json", "failing.json") is Status.FAILED
    assert verdict(folder, "failing.json", "passing.json") is Status.INCONCLUSIVE


@SETTINGS
@given(data=damaged(as_values(PASSING)))
def test_a_damaged_report_that_passed(folder: Path, data: bytes) -> None:
    (folder / "damaged.json").write_bytes(data)
    report = refused_or(lambda: read_report(folder / "damaged.json"), InputError)
    if report is None:
        assert is_refused(lambda: verdict(folder, "passing.json", "damaged.json"), InputError)
        assert is_refused(lambda: verdict(folder, "damaged.json", "passing.json"), InputError)
        return
    assert parse_report(as_values(report), source="again") == report
    if verdict(folder, "passing.json", "damaged.json") is Status.PASSED:
        assert report.verdict is Status.PASSED
        assert evidence(PASSING) <= evidence(report)
        known = {(finding.code, finding.location) for check in PASSING.checks for finding in check.findings}
        assert {(finding.code, finding.location) for check in report.checks for finding in check.findings} <= known
    if verdict(folder, "damaged.json", "passing.json") is Status.PASSED:
        assert report.verdict is Status.PASSED


@SETTINGS
@given(data=damaged(as_values(FAILING)))
def test_a_damaged_report_that_failed(folder: Path, data: bytes) -> None:
    (folder / "damaged.json").write_bytes(data)
    report = refused_or(lambda: read_report(folder / "damaged.json"), InputError)
    if report is not None:
        assert verdict(folder, "passing.json", "damaged.json") is not Status.PASSED
        assert verdict(folder, "damaged.json", "passing.json") is not Status.PASSED


@pytest.mark.parametrize(
    "name", ["a" * 5000, "a" * 300, "a/" * 3000, "x\0y", "no\nsuch", "no\ud800such", "passing.json/x"]
)
def test_paths_that_no_file_can_have(folder: Path, name: str) -> None:
    whole = folder / "passing.json"
    for path in (folder / name, Path(name)):
        assert is_refused(lambda path=path: read_report(path), InputError)
        assert is_refused(lambda path=path: read_fingerprint(path), InputError)
        assert is_refused(lambda path=path: list(compare_with_baseline(path, whole)), InputError)
        assert is_refused(lambda path=path: list(compare_with_baseline(whole, path)), InputError)


@pytest.mark.parametrize("value", [None, "0.25", True, KeyError])
@pytest.mark.parametrize(("check", "figure"), [("parity.buffers", "share"), ("memory.predict", "step_seconds")])
def test_a_number_that_vanished_is_no_pass(folder: Path, check: str, figure: str, value: Any) -> None:
    values = as_values(PASSING)
    (measured,) = [one["measurements"] for one in values["checks"] if one["id"] == check]
    row = measured["cells"][0] if check == "memory.predict" else measured
    row[figure] = value
    if value is KeyError:
        del row[figure]
    (folder / "vanished.json").write_text(json.dumps(values))
    if figure.endswith("_seconds") and value in ("0.25", True):
        assert is_refused(lambda: verdict(folder, "passing.json", "vanished.json"), InputError)
    else:
        assert verdict(folder, "passing.json", "vanished.json") is Status.FAILED
