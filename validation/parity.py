"""Parity: is the candidate the reference, bit for bit?

In: two subjects and the probes. Out: one check for the control, one for each layer of state, and one for each
probe. Only one model is in memory at a time; nothing but digests outlives it.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from validation.diff import diff_layer
from validation.fingerprint.behaviour import fingerprint_behaviour
from validation.fingerprint.observations import Fingerprint, num_tensors
from validation.fingerprint.state import fingerprint_state
from validation.probes import Probe
from validation.results import CheckResult, Finding, Status
from validation.subjects import Subject

STATE_LAYERS = ("config", "modules", "parameters", "buffers", "globals")
BEHAVIOUR_LAYERS = ("trace", "outputs", "generation")
Progress = Callable[[str], None]


def count_steps(probes: Sequence[Probe]) -> int:
    """How many times `check_parity` reports progress."""
    num_generating = sum(not probe.decode_steps for probe in probes)
    return 2 + 3 * (len(probes) + num_generating)


def check_parity(
    reference: Subject,
    candidate: Subject,
    probes: Sequence[Probe],
    *,
    progress: Progress = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Compare two subjects on everything observable.

    Args:
        reference, candidate: what is loaded; both from the same checkpoint, dtype, device and attention.
        probes: what both are asked; the reference twice, as the control.
        progress: called with a line before each step.

    Returns:
        The control's check first. Where the control itself differs, the checks it touches are inconclusive.

    Raises:
        InputError: if a subject cannot be loaded.
    """
    clock = _Clock()
    progress("loading the reference")
    model = reference.load()
    expected_state = fingerprint_state(model)
    state_seconds = clock.lap()
    expected = fingerprint_behaviour(
        model, probes, seed=reference.seed, on_probe=lambda name: progress(f"reference: {name}")
    )
    reference_seconds = clock.lap()
    control = fingerprint_behaviour(
        model, probes, seed=reference.seed, on_probe=lambda name: progress(f"control: {name}")
    )
    control_check = _check_control(expected, control, seconds=clock.lap())
    del model
    _free_memory()

    progress("loading the candidate")
    model = candidate.load()
    actual_state = fingerprint_state(model)
    state_seconds += clock.lap()
    actual = fingerprint_behaviour(
        model, probes, seed=candidate.seed, on_probe=lambda name: progress(f"candidate: {name}")
    )
    probe_seconds = (reference_seconds + clock.lap()) / max(len(probes), 1)
    del model
    _free_memory()

    state_checks = [
        _check_state_layer(layer, expected_state, actual_state, seconds=state_seconds / len(STATE_LAYERS))
        for layer in STATE_LAYERS
    ]
    if any(check.status is Status.FAILED and check.id in _REPEATABLE for check in state_checks):
        state_checks = _repeat_load(reference, expected_state, state_checks)
    unstable = {location for finding in control_check.findings for location in [finding.location.split("/")[0]]}
    probe_checks = [
        _check_probe(probe, expected, actual, seconds=probe_seconds, is_stable=probe.name not in unstable)
        for probe in probes
    ]
    return (control_check, *state_checks, *probe_checks)


# Layers that loading alone decides: if they differ between two loads of the reference, loading is at fault.
_REPEATABLE = {"parity.parameters", "parity.buffers", "parity.globals"}


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _check_control(expected: Fingerprint, control: Fingerprint, *, seconds: float) -> CheckResult:
    findings: list[Finding] = []
    for layer in BEHAVIOUR_LAYERS:
        for finding in diff_layer(layer, expected.layers[layer], control.layers[layer]):
            findings.append(
                replace(
                    finding,
                    cause="the reference itself gives other results when run again: a kernel is not deterministic",
                    remedy="set torch.use_deterministic_algorithms(True), or compare on another device",
                )
            )
    compared = sum(num_tensors(expected.layers[layer]) for layer in BEHAVIOUR_LAYERS)
    status, reason = Status.PASSED, None
    if findings:
        status, reason = Status.INCONCLUSIVE, "two runs of the reference differ"
    elif not compared:
        status, reason = Status.INCONCLUSIVE, "nothing was compared"
    return CheckResult(
        id="parity.control",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements={"tensors_compared": compared},
        findings=tuple(findings),
    )


def _judge(findings: Sequence[Finding], num_compared: int) -> tuple[Status, str | None]:
    if findings:
        return Status.FAILED, None
    return (Status.PASSED, None) if num_compared else (Status.INCONCLUSIVE, "nothing was compared")


def _check_state_layer(layer: str, expected: Fingerprint, actual: Fingerprint, *, seconds: float) -> CheckResult:
    findings = diff_layer(layer, expected.layers[layer], actual.layers[layer])
    status, reason = _judge(findings, len(expected.layers[layer]))
    measurements: dict[str, object] = {"compared": len(expected.layers[layer])}
    if layer in expected.num_bytes:
        measurements = {
            "tensors_compared": num_tensors(expected.layers[layer]),
            "compared_bytes": expected.num_bytes[layer],
        }
    return CheckResult(
        id=f"parity.{layer}",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements=measurements,
        findings=findings,
    )


def _repeat_load(reference: Subject, expected: Fingerprint, checks: Sequence[CheckResult]) -> list[CheckResult]:
    """Load the reference again; a layer in which it differs from itself proves nothing about the candidate."""
    again = fingerprint_state(reference.load())
    _free_memory()
    repeated = []
    for check in checks:
        layer = check.id.removeprefix("parity.")
        if check.id in _REPEATABLE and diff_layer(layer, expected.layers[layer], again.layers[layer]):
            repeated.append(replace(check, status=Status.INCONCLUSIVE, reason="two loads of the reference differ here"))
        else:
            repeated.append(check)
    return repeated


def _check_probe(
    probe: Probe, expected: Fingerprint, actual: Fingerprint, *, seconds: float, is_stable: bool
) -> CheckResult:
    findings: list[Finding] = []
    counts = {}
    for layer in BEHAVIOUR_LAYERS:
        prefix = f"{probe.name}/"
        observed = expected.subset(layer, prefix)
        findings += diff_layer(layer, observed, actual.subset(layer, prefix))
        counts[layer] = num_tensors(observed)
    compared = sum(counts.values())
    status, reason = _judge(findings, min(counts["trace"], counts["outputs"]))
    if not is_stable:
        status, reason = Status.INCONCLUSIVE, "the control differs on this probe"
    return CheckResult(
        id=f"parity.probe.{probe.name}",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements={
            "tensors_compared": compared,
            "module_outputs_compared": counts["trace"],
            "outputs_compared": counts["outputs"],
            "generations_compared": counts["generation"],
            "batch_size": int(probe.inputs["input_ids"].shape[0]),
            "sequence_length": int(probe.inputs["input_ids"].shape[1]),
        },
        findings=tuple(findings),
    )
