"""Reports made by hand, with everything that a form has to show."""

from typing import Any

from theworld_validate.results import CheckResult, Finding, Report, Status

ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux",
    "machine": "x86_64",
    "processor": "a processor",
    "cpu_count": 2,
    "torch_threads": 2,
    "packages": {"torch": "2.13.0", "transformers": "5.23.0", "diffusers": "0.42.1", "accelerate": None},
    "cuda": None,
    "gpu": None,
    "gpu_count": 0,
    "calibration_seconds": 0.02,
}
WORKLOAD = {"world_tokens": 784, "text_tokens": 1024, "batch": 1}


def make_report(checks: list[CheckResult], *, seconds: float = 30.0) -> dict[str, Any]:
    return Report(
        command="theworld-validate",
        started_at="2026-01-02T03:04:05+00:00",
        seconds=seconds,
        environment=ENVIRONMENT,
        checks=tuple(checks),
    ).to_json()


def failing_check(**changes: Any) -> CheckResult:
    finding = Finding(
        code="buffers.dtype",
        location="model.<rotary>&inv_freq",
        message="dtype is bfloat16 | expected float32 <script>alert(1)</script>",
        expected="float32",
        actual="bfloat16",
        cause="the model was cast\nafter it was built",
        remedy="load with from_pretrained",
    )
    fields = {"id": "parity.buffers", "status": Status.FAILED, "seconds": 1.5, "findings": (finding,), **changes}
    return CheckResult(**fields)


def memory_check(peak: int = 1_000_000_000) -> CheckResult:
    split = {"parameters_bytes": peak // 2, "activations_bytes": peak // 2}
    return CheckResult(
        id="memory.predict",
        status=Status.PASSED,
        seconds=6.0,
        measurements={
            "compared": 1,
            "cells": [{"configuration": "projection", **WORKLOAD, "peak_allocated_bytes": peak}],
            "phase_peaks": [{"configuration": "projection", **WORKLOAD, "forward_bytes": peak - 5}],
            "splits": [{"configuration": "projection", **WORKLOAD, **split}],
            "timelines": [{"configuration": "projection", **WORKLOAD, "bytes": [1, 5, peak, 2]}],
        },
    )


def sample_checks() -> list[CheckResult]:
    spread = {"modules": ["a.layers.0", "a.layers.1"], "outputs": [10, 10], "differing": [0, 7]}
    warning = Finding(code="claims.refuted", severity="warning", location="x", message="line 7 says otherwise")
    return [
        failing_check(),
        CheckResult(
            id="parity.probe.text",
            status=Status.FAILED,
            seconds=2.0,
            measurements={"tensors_compared": 20, "compared_bytes": 4000, "divergence": spread},
        ),
        CheckResult(id="parity.control", status=Status.INCONCLUSIVE, reason="two runs differ", seconds=0.1),
        CheckResult(id="claims.memory", status=Status.SKIPPED, reason="needs a GPU", seconds=0.0),
        CheckResult(
            id="params.components",
            status=Status.PASSED,
            seconds=0.2,
            measurements={"parameters": 5, "components": [{"component": "lm_head", "parameters": 5, "share": 1.0}]},
        ),
        CheckResult(id="claims.counts", status=Status.PASSED, seconds=0.2, findings=(warning,)),
        memory_check(),
    ]
