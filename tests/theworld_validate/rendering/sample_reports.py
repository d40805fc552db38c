"""Reports made by hand, with everything that a form has to show."""

from collections.abc import Sequence
from typing import Any

from theworld_validate.results import CheckResult, Environment, Finding, Plan, Report, Status, SubjectRecord

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
WORKLOAD = {"world_tokens": 784, "text_tokens": 1024, "batch": 1}
SUBJECTS = (
    SubjectRecord(
        role="reference",
        target="transformers:Gemma3ForConditionalGeneration",
        checkpoint="checkpoints/gemma",
        checkpoint_digest="0123456789abcdef" * 4,
        dtype="bfloat16",
        device="cuda:0",
        attn="sdpa",
    ),
    SubjectRecord(
        role="candidate",
        target="theworld:TheWorld",
        checkpoint="checkpoints/gemma",
        checkpoint_digest="0123456789abcdef" * 4,
        cosmos="checkpoints/cosmos",
        dtype="float32",
        device="cuda:0",
        attn="sdpa",
        seed=7,
        printed="loading\nWARNING: the rotary embedding was cast\n",
        printed_bytes=5_002_713,
    ),
)
PLAN = Plan(sections=("config", "buffers", "trace"), probes=("text", "image"))
COMMAND_LINE = "theworld-validate parity --candidate theworld:TheWorld --model 'checkpoints/gemma'"


def make_report(checks: Sequence[CheckResult], **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "command": "theworld-validate",
        "started_at": "2026-01-02T03:04:05+00:00",
        "seconds": 30.0,
        "environment": ENVIRONMENT,
    }
    return Report(checks=tuple(checks), **(fields | changes))


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


CAUSE = Finding(
    code="buffers.dtype",
    location="model.rotary_emb.inv_freq",
    message="model.rotary_emb.inv_freq: dtype is bfloat16, expected float32",
    expected="float32",
    actual="bfloat16",
    cause="the model was cast to bfloat16 after it was built, and its rotary frequencies with it",
    remedy="load with from_pretrained(dtype=torch.bfloat16), which keeps buffers as they are",
    section="buffers",
    field="dtype",
)


def consequence(number: int) -> Finding:
    """A finding that follows from `CAUSE`."""
    return Finding(
        code="trace.digest",
        location=f"text/model.layers.{number}",
        message=f"text/model.layers.{number} differs in its bits",
        cause="never shown",
        remedy="never shown",
        section="trace",
        field="digest",
        explained_by=CAUSE.key,
    )


def parity_report(num_following: int = 8) -> Report:
    """A failing report: one cause in the state, found after what follows from it, and a warning."""
    warning = Finding(code="globals.threads", severity="warning", location="torch", message="4 threads, expected 2")
    found = tuple(consequence(number) for number in range(num_following))
    checks = [
        CheckResult(id="parity.globals", status=Status.PASSED, seconds=0.1, findings=(warning,)),
        CheckResult(
            id="parity.probe.text",
            status=Status.FAILED,
            seconds=2.0,
            findings=found,
            measurements={"tensors_compared": 20, "compared_bytes": 4000},
        ),
        CheckResult(id="parity.buffers", status=Status.FAILED, seconds=1.0, findings=(CAUSE,)),
        CheckResult(id="parity.control", status=Status.INCONCLUSIVE, reason="two runs differ", seconds=0.1),
        CheckResult(id="parity.gradients", status=Status.SKIPPED, reason="the reference has none", seconds=0.0),
        CheckResult(id="parity.files", status=Status.PASSED, seconds=0.1),
    ]
    return make_report(
        checks, command="theworld-validate parity", command_line=COMMAND_LINE, subjects=SUBJECTS, plan=PLAN
    )
