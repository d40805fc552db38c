"""Reports of each kind that people look at, made by hand: small, with everything that their pages draw."""

from collections.abc import Sequence
from dataclasses import replace

from tests.theworld_validate.rendering.sample_reports import (
    CAUSE,
    COMMAND_LINE,
    PLAN,
    SUBJECTS,
    consequence,
    make_report,
    parity_report,
)
from theworld_validate.results import CheckResult, Finding, Measurements, Report, Row, Scalar, Status

GB = 10**9
CAPACITY = 40 * GB
PRESETS = ("projection", "vision", "language", "full")
LEVERS = ("", " + checkpointing", " + chunked loss", " + checkpointing + chunked loss")
MODULES = ("model.embed_tokens", *(f"model.layers.{i}" for i in range(4)), "lm_head")


def passed(check_id: str, **measurements: object) -> CheckResult:
    return CheckResult(id=check_id, status=Status.PASSED, seconds=0.5, measurements=dict(measurements))  # type: ignore[arg-type]


def passing_report() -> Report:
    """A parity without a difference."""
    counts = {"module_outputs_compared": 150, "outputs_compared": 30, "generations_compared": 9}
    probe = {**counts, "tensors_compared": 189, "differing_outputs": 0, "divergence": {}}
    checks = [
        passed("parity.control", tensors_compared=400),
        passed("parity.parameters", tensors_compared=145, compared_bytes=3 * GB),
        passed("parity.buffers", tensors_compared=6, compared_bytes=800),
        *(passed(f"parity.probe.{name}", probe=name, **probe) for name in PLAN.probes),
    ]
    return make_report(
        checks, command="theworld-validate parity", command_line=COMMAND_LINE, subjects=SUBJECTS, plan=PLAN
    )


def divergence(differing: Sequence[int], outputs: int = 18) -> dict[str, list[Scalar]]:
    """How far a difference spreads over `MODULES`."""
    return {"modules": [*MODULES], "outputs": [outputs] * len(MODULES), "differing": [*differing]}


def failing_report() -> Report:
    """A parity with one cause, seen on two probes, while a third is equal; and a warning."""
    seen: Measurements = {
        "divergence_place": "text/model.layers.1.mlp.down_proj",
        "divergence_inputs_equal": True,
        "divergence_max_abs_difference": 0.25,
        "divergence_max_ulp": 4096,
        "divergence_differing_share": 0.0125,
        "divergence_example_index": "[0, 3, 7]",
        "divergence_spread": "·▂▇!",
        "divergence_tensors_file": "divergence.safetensors",
    }
    tree = divergence((0, 0, 5, 17, 17, 18))
    probes = [
        CheckResult(
            id=f"parity.probe.{name}",
            status=Status.FAILED,
            seconds=1.0,
            findings=tuple(replace(consequence(i), location=f"{name}/model.layers.{i}") for i in range(1, 4)),
            measurements={
                "probe": name,
                "tensors_compared": 108,
                "divergence": tree,
                **more,
            },
        )
        for name, more in (("text", seen), ("left_padded_batch", {}))
    ]
    checks = [
        *parity_report(0).checks,
        *probes,
        passed("parity.probe.image", probe="image", tensors_compared=108, divergence={}),
        passed("parity.parameters", tensors_compared=145, compared_bytes=3 * GB),
    ]
    unique = {check.id: check for check in checks}
    return replace(parity_report(), checks=tuple(unique.values()))


NOISE = Finding(
    code="trace.digest",
    location="lm_head",
    message="lm_head: output 0 differs",
    cause="the reference itself gives other results when run again",
    remedy="look for what draws numbers where it first differs",
    section="trace",
    field="digest",
)


def inconclusive_report() -> Report:
    """A parity of a model with itself, which does not repeat itself: it proves nothing, for one cause."""
    noise = replace(NOISE, location=f"{PLAN.probes[0]}/lm_head")
    follows = [
        replace(noise, location=f"{name}/{place}", cause=None, remedy=None, explained_by=noise.key)
        for name in PLAN.probes
        for place in ("lm_head", "logits")
    ]
    checks = [
        CheckResult(
            id="parity.control",
            status=Status.INCONCLUSIVE,
            reason="two runs of the reference differ",
            seconds=0.5,
            findings=(noise, *follows[1:]),
        ),
        *(
            CheckResult(
                id=f"parity.probe.{name}",
                status=Status.INCONCLUSIVE,
                reason="the control differs on this probe",
                seconds=0.5,
                findings=tuple(finding for finding in follows if finding.location.startswith(f"{name}/")),
            )
            for name in PLAN.probes
        ),
        passed("parity.files", keys=145),
    ]
    alike = (SUBJECTS[0], replace(SUBJECTS[0], role="candidate"))
    return replace(passing_report(), checks=tuple(checks), subjects=alike)


def memory_report() -> Report:
    """A matrix of configurations of which some fit, and a run of many steps."""
    workload: Row = {"world_tokens": 784, "text_tokens": 1024, "batch": 1}
    names = [f"{preset}{lever}" for preset in PRESETS for lever in LEVERS]
    peaks = {name: (8 + 4 * i) * GB for i, name in enumerate(names)}
    rows = list(peaks.items())
    own: dict[str, Row] = {name: {"configuration": name, **workload} for name in names}
    finding = Finding(
        code="memory.does_not_fit",
        location="full: 1 x (1,024 text + 784 world tokens)",
        message="full does not fit l4: it takes 60.0 GB, and 40.0 GB can be reserved (38 GiB less 2 % of margin)",
        expected=CAPACITY,
        actual=60 * GB,
        field="peak_reserved_bytes",
        cause="the most is taken by activations",
        remedy="it fits with gradient checkpointing",
    )
    predicted: Measurements = {
        "compared": len(names),
        "gpu": "a GPU",
        "capacity_bytes": CAPACITY,
        "cells": [
            {
                **own[name],
                "peak_allocated_bytes": peak,
                "peak_reserved_bytes": peak + GB,
                "fits": peak + GB <= CAPACITY,
            }
            for name, peak in rows
        ],
        "phase_peaks": [{**own[name], "forward_bytes": peak - GB, "backward_bytes": peak} for name, peak in rows],
        "splits": [
            {**own[name], "parameters_bytes": 8 * GB, "gradients_bytes": 0, "activations_bytes": peak - 8 * GB}
            for name, peak in rows
        ],
        "timelines": [{**own[name], "bytes": [8 * GB, peak, 8 * GB]} for name, peak in rows],
        "levers": [
            {"cell": "full", "with": "gradient checkpointing", "peak_reserved_bytes": 30 * GB, "step_time": "more"}
        ],
    }
    steps = list[Scalar](10 * GB + i * GB // 4 for i in range(30))
    run: Measurements = {
        "compared": 1,
        "lengths": "30 steps of 20 to 200 text tokens",
        "allocator": "default",
        "capacity_bytes": CAPACITY,
        "courses": [{"configuration": "projection", "batch": 1, "allocated": steps, "reserved": [18 * GB] * 30}],
    }
    return make_report(
        [
            CheckResult(
                id="memory.predict", status=Status.FAILED, seconds=6.0, measurements=predicted, findings=(finding,)
            ),
            CheckResult(id="memory.run", status=Status.PASSED, seconds=6.0, measurements=run),
        ],
        command="theworld-validate memory predict",
        subjects=SUBJECTS[1:],
    )


LOST = Finding(
    code="releases.missing",
    location="lm_head.weight",
    message="it loads the checkpoint with 1 of 152 tensors missing: lm_head.weight",
    cause="lost key: no key of the files is read into them",
    remedy="rename the keys",
)


def releases_report() -> Report:
    """Five releases: after the first one changed, two lose weights for the same reason, and the last is as before."""
    grid: list[Row] = [
        {"release": "5.0.0", "verdict": "equal", "loading": "equal", "text": "equal", "image": None},
        {"release": "5.1.0", "verdict": "changed", "loading": "equal", "text": "changed", "image": "equivalent"},
        {"release": "5.2.0", "verdict": "unsafe", "loading": "unsafe", "text": "equal", "image": "undecidable"},
        {"release": "5.3.0", "verdict": "unsafe", "loading": "unsafe", "text": "equal", "image": "equal"},
        {"release": "5.4.0", "verdict": "equal", "loading": "equal", "text": "equal", "image": "equal"},
    ]
    files: list[Row] = [
        {"saved_by": "5.0.0", "read_by_5.0.0": "itself", "read_by_5.2.0": "whole"},
        {"saved_by": "5.2.0", "read_by_5.0.0": "37 lost", "read_by_5.2.0": "itself"},
    ]
    return make_report(
        [
            CheckResult(id="releases.5.1.0", status=Status.FAILED, seconds=1.0, findings=(CAUSE,)),
            CheckResult(id="releases.5.2.0", status=Status.FAILED, seconds=1.0, findings=(LOST,)),
            CheckResult(id="releases.5.3.0", status=Status.FAILED, seconds=1.0, findings=(LOST,)),
            passed("releases.files", pairs_read=1, files=files),
            passed("releases.table", releases=5, passing=1, grid=grid),
        ],
        command="theworld-validate releases",
        plan=PLAN,
    )


def claims_report() -> Report:
    """Claims of every verdict; the refuted one has its finding."""
    rows: list[Row] = [
        {
            "claim": "total",
            "verdict": "holds",
            "documented": "4,430",
            "measured": 4430,
            "unit": "parameters",
            "lines": "132",
            "says": "4.43B",
        },
        {
            "claim": "trainable",
            "verdict": "refuted",
            "documented": "4,030",
            "measured": 3880,
            "lines": "134, 255",
            "says": "4.03B train",
            "explanation": "the projector was forgotten",
            "quoted": "Trainable parameters: 4.03B",
        },
        {"claim": "memory", "verdict": "needs a GPU", "documented": "20 to 24", "measured": None, "says": "20 GB"},
        {"claim": "frozen", "verdict": "explained", "documented": "397", "measured": 546, "says": "397M are frozen"},
    ]
    finding = Finding(
        code="claims.refuted", severity="warning", location="counts.trainable", message="line 134 says otherwise"
    )
    check = CheckResult(
        id="claims.counts",
        status=Status.PASSED,
        seconds=0.1,
        measurements={"holds": 1, "refuted": 1, "claims": rows},
        findings=(finding,),
    )
    components: list[Row] = [
        {"component": "language_model", "total": 3_880, "trainable": 0},
        {"component": "world_projection", "total": 120, "trainable": 120},
    ]
    return make_report([check, passed("params.components", parameters=4_000, components=components)])


REPORTS = {
    "passing": passing_report,
    "failing": failing_report,
    "memory": memory_report,
    "releases": releases_report,
    "inconclusive": inconclusive_report,
    "claims": claims_report,
}
