"""Reports made by hand, to be held against each other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from theworld_validate.documents.report import report_to_json
from theworld_validate.results import (
    CheckResult,
    Environment,
    Finding,
    Measurements,
    Report,
    Row,
    Scalar,
    Status,
    SubjectRecord,
)

ENVIRONMENT = Environment(
    python="3.11.7",
    platform="Linux",
    machine="x86_64",
    processor="a processor",
    cpu_count=2,
    torch_threads=2,
    packages={"torch": "2.13.0", "transformers": "5.23.0", "diffusers": "0.42.1", "accelerate": None},
    calibration_seconds=0.02,
)
SUBJECT = SubjectRecord(
    role="candidate",
    target="theworld:TheWorld",
    checkpoint="/here/gemma",
    checkpoint_digest="abc",
    dtype="bfloat16",
    device="cpu",
)
WARNING = Finding(code="buffers.dtype", severity="warning", location="model.inv_freq", message="dtype is bfloat16")
ERROR = replace(WARNING, severity="error", cause="the model was cast", remedy="load it anew")
PEAK = 1_000_000_000


def make_check(name: str, measurements: Measurements | None = None, *, seconds: float = 0.1) -> CheckResult:
    return CheckResult(id=name, status=Status.PASSED, seconds=seconds, measurements=measurements or {})


def cell(**changes: Scalar) -> Row:
    row: Row = {"configuration": "projection", "world_tokens": 784, "text_tokens": 1024, "batch": 1}
    return {**row, "peak_allocated_bytes": PEAK, "fits": None, **changes}


def good_report() -> Report:
    """A report that passed: parity, a table of counts, a table of memory."""
    checks = (
        make_check("parity.parameters", {"tensors_compared": 145}, seconds=10.0),
        make_check("params.components", {"components": [{"component": "lm_head", "parameters": 5, "tied": True}]}),
        make_check("memory.predict", {"compared": 1, "cells": [cell()]}),
    )
    return Report(
        command="theworld-validate",
        started_at="2026-01-02T03:04:05+00:00",
        seconds=30.0,
        environment=ENVIRONMENT,
        subjects=(SUBJECT,),
        checks=checks,
    )


def with_check(report: Report, name: str, change: Callable[[CheckResult], CheckResult]) -> Report:
    """The report with one of its checks changed."""
    return replace(report, checks=tuple(change(check) if check.id == name else check for check in report.checks))


def with_measurements(report: Report, name: str, measurements: Measurements) -> Report:
    return with_check(report, name, lambda check: replace(check, measurements=measurements))


def with_cell(report: Report, **changes: Scalar) -> Report:
    """The report with another row of memory."""
    return with_measurements(report, "memory.predict", {"compared": 1, "cells": [cell(**changes)]})


def write(path: Path, report: Report) -> Path:
    """Write a report's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report_to_json(report)))
    return path
