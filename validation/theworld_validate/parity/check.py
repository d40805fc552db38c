"""Parity: is the candidate the reference, bit for bit?

In: two subjects and the probes. Out: one check for the control, one for each layer of state, and one for each
probe. Only one model is in memory at a time; nothing but digests outlives it.
"""

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from theworld_validate.compare.causes import advise
from theworld_validate.compare.differences import diff_layer, diff_trace, divergence_by_module
from theworld_validate.documents.fingerprint import FingerprintFile
from theworld_validate.documents.observations import PROBE_LAYERS, STATE_LAYERS, Fingerprint, Layer, num_tensors
from theworld_validate.fingerprint.state import fingerprint_state
from theworld_validate.fingerprint.take import count_run_steps, fingerprint_run, take_fingerprint
from theworld_validate.fingerprint.take import count_steps as count_fingerprint_steps
from theworld_validate.parity.drill_down import drill_down
from theworld_validate.parity.second_look import rank_with_second_look
from theworld_validate.probes.gemma3 import Probe
from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.subjects.subject import Subject

WHOLE_LAYERS = (*STATE_LAYERS, "gradients", "round_trip")  # one check each; the others are split by probe
Progress = Callable[[str], None]


def count_steps(probes: Sequence[Probe]) -> int:
    """How many times `check_parity` reports progress."""
    return 2 + 2 * count_fingerprint_steps(probes) + count_run_steps(probes)


def check_parity(
    reference: Subject,
    candidate: Subject,
    probes: Sequence[Probe],
    *,
    deterministic: bool = True,
    save_to: Path | None = None,
    progress: Progress = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Compare two subjects on everything observable.

    Args:
        reference, candidate: what is loaded; both from the same checkpoint, dtype, device and attention.
        probes: what both are asked; the reference twice, as the control.
        deterministic: choose deterministic kernels on CUDA.
        save_to: a folder for both tensors of the first difference; not saved if None.
        progress: called with a line before each step.

    Returns:
        Where something differs, the likeliest causes first; then the control's check, and all others. Where the
        control itself differs, the checks that it touches are inconclusive.

    Raises:
        InputError: if a subject cannot be loaded.
    """
    import torch

    clock = _Clock()
    progress("loading the reference")
    model = reference.load()
    options = {"seed": reference.seed, "deterministic": deterministic}
    expected = take_fingerprint(model, probes, **options, progress=lambda step: progress(f"reference: {step}"))
    seconds = clock.lap()
    control = fingerprint_run(model, probes, **options, progress=lambda step: progress(f"control: {step}"))
    control_check = check_control(expected, control, seconds=clock.lap())
    del model
    _free_memory()

    progress("loading the candidate")
    model = candidate.load()
    try:
        actual = take_fingerprint(model, probes, **options, progress=lambda step: progress(f"candidate: {step}"))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the reference answered the same questions
        return (control_check, _raised(error, seconds=clock.lap()))
    seconds += clock.lap()
    del model
    _free_memory()

    checks = compare_fingerprints(expected, actual, control_check, seconds=seconds)
    if any(check.status is Status.FAILED and check.id in _REPEATABLE for check in checks):
        checks = _repeat_load(reference, expected, checks)
    if any(check.status is Status.FAILED for check in checks):
        progress("looking for the cause")
        checks = (_find_cause(reference, candidate, checks, probes, save_to=save_to), *checks)
        _free_memory()
    return checks


def _raised(error: Exception, *, seconds: float) -> CheckResult:
    """The check of a candidate that raises where the reference does not."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    finding = Finding(
        code="candidate.raised",
        location=f"{frame.filename}:{frame.lineno}",
        message=f"the candidate raises {type(error).__name__}: {' '.join(str(error).split())}",
        cause=f"{frame.name} fails on an input that the reference answers",
        remedy=f"mend it there; it was called with what the reference was ({frame.line})",
    )
    return CheckResult(id="parity.candidate", status=Status.FAILED, seconds=seconds, findings=(finding,))


def _find_cause(
    reference: Subject,
    candidate: Subject,
    checks: Sequence[CheckResult],
    probes: Sequence[Probe],
    *,
    save_to: Path | None,
) -> CheckResult:
    """Load both again and take the second look: the likeliest causes, and the first difference measured."""
    clock = _Clock()
    failed = [finding for check in checks if check.status is Status.FAILED for finding in check.findings]
    one, other = reference.load(), candidate.load()
    ranked = rank_with_second_look(one, other, failed, probes, seed=reference.seed)
    # The likeliest place of each kind of cause.
    by_cause = list({cause: (cause, code, location) for cause, code, location in reversed(ranked)}.values())[::-1]
    measurements: dict[str, object] = {}
    first = next((finding.location for finding in failed if finding.code.startswith("trace.")), None)
    if first is not None:
        probe = next(probe for probe in probes if probe.name == first.split("/")[0])
        measured = drill_down(one, other, probe, first, seed=reference.seed, save_to=save_to)
        measurements = {f"divergence_{name}": value for name, value in measured.items()}
    return CheckResult(
        id="parity.cause",
        status=Status.FAILED,
        seconds=clock.lap(),
        measurements=measurements,
        findings=tuple(
            Finding(
                code=f"cause.{cause.replace(' ', '_').replace('-', '_')}",
                location=location,
                message=f"likely cause {position}: {cause} at {location} ({code})",
                cause=advise(cause)[0],
                remedy=advise(cause)[1],
            )
            for position, (cause, code, location) in enumerate(by_cause[:3], start=1)
        ),
    )


def compare_fingerprints(
    expected: Fingerprint, actual: Fingerprint, control: CheckResult | None, *, seconds: float
) -> tuple[CheckResult, ...]:
    """Compare two fingerprints: one check for each whole layer, and one for each probe.

    Args:
        control: the reference's comparison with itself; None if it was not made, as between files.
        seconds: what both fingerprints took; shared out evenly over the checks.
    """
    differing = control.findings if control else ()
    unstable = {
        "gradients" if finding.code.startswith("gradients.") else finding.location.split("/")[0]
        for finding in differing
    }
    layers = [layer for layer in WHOLE_LAYERS if layer in expected.layers or layer in actual.layers]
    probes = list(dict.fromkeys(location.split("/")[0] for location in expected.layers.get("outputs", {})))
    each = seconds / max(len(layers) + len(probes), 1)
    return (
        *([control] if control else []),
        *(_check_layer(layer, expected, actual, seconds=each, is_stable=layer not in unstable) for layer in layers),
        *(_check_probe(name, expected, actual, seconds=each, is_stable=name not in unstable) for name in probes),
    )


def compare_files(reference: FingerprintFile, candidate: FingerprintFile) -> tuple[CheckResult, ...]:
    """Compare two fingerprints that were made apart: what differs around them first, then what differs in them.

    A difference in subject or environment is no failure: it is what explains one.
    """
    around = [
        *diff_layer("subject", _as_layer(reference.subject), _as_layer(candidate.subject)),
        *diff_layer("environment", _as_layer(reference.environment), _as_layer(candidate.environment)),
    ]
    surroundings = CheckResult(
        id="diff.surroundings",
        status=Status.PASSED,
        reason=f"{len(around)} kinds of difference between where and how the two were made" if around else None,
        seconds=0.0,
        measurements={"compared": len(reference.subject) + len(reference.environment)},
        findings=tuple(replace(finding, severity="warning") for finding in around),
    )
    return (surroundings, *compare_fingerprints(reference.fingerprint, candidate.fingerprint, None, seconds=0.0))


def _as_layer(values: dict[str, object]) -> Layer:
    flat: Layer = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": {inner: item} for inner, item in value.items()})
        else:
            flat[key] = {key: value}
    return flat


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


def check_control(expected: Fingerprint, control: Fingerprint, *, seconds: float) -> CheckResult:
    """Compare two fingerprints of one loaded model; a difference makes the verdict inconclusive."""
    findings: list[Finding] = []
    layers = [layer for layer in (*PROBE_LAYERS, "gradients") if layer in expected.layers]
    for layer in layers:
        for finding in diff_layer(layer, expected.layers[layer], control.layers[layer]):
            findings.append(
                replace(
                    finding,
                    cause="the reference itself gives other results when run again: a kernel is not deterministic",
                    remedy="set torch.use_deterministic_algorithms(True), or compare on another device",
                )
            )
    compared = sum(num_tensors(expected.layers[layer]) for layer in layers)
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


def _check_layer(
    layer: str, expected: Fingerprint, actual: Fingerprint, *, seconds: float, is_stable: bool
) -> CheckResult:
    observed = expected.layers.get(layer, {})
    findings = diff_layer(layer, observed, actual.layers.get(layer, {}))
    compared = num_tensors(observed) if layer in expected.num_bytes else len(observed)
    status, reason = _judge(findings, compared)
    if not is_stable:
        status, reason = Status.INCONCLUSIVE, "the control differs here"
    measurements: dict[str, object] = {"compared": compared}
    if layer in expected.num_bytes:
        measurements = {"tensors_compared": compared, "compared_bytes": expected.num_bytes[layer]}
    return CheckResult(
        id=f"parity.{layer}",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements=measurements,
        findings=findings,
    )


def _repeat_load(reference: Subject, expected: Fingerprint, checks: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
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
    return tuple(repeated)


def _check_probe(
    name: str, expected: Fingerprint, actual: Fingerprint, *, seconds: float, is_stable: bool
) -> CheckResult:
    sides = {layer: (expected.subset(layer, f"{name}/"), actual.subset(layer, f"{name}/")) for layer in PROBE_LAYERS}
    counts = {layer: num_tensors(observed) for layer, (observed, _) in sides.items()}
    after_trace = [finding for layer in ("outputs", "generation") for finding in diff_layer(layer, *sides[layer])]
    first = diff_trace(*sides["trace"])
    # What differs in the trace differs in the outputs too: the first place is the one to read.
    findings = after_trace if first is None else [first]
    status, reason = _judge(findings, min(counts["trace"], counts["outputs"]))
    if not is_stable:
        status, reason = Status.INCONCLUSIVE, "the control differs on this probe"
    return CheckResult(
        id=f"parity.probe.{name}",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements={
            "tensors_compared": sum(counts.values()),
            "module_outputs_compared": counts["trace"],
            "outputs_compared": counts["outputs"],
            "generations_compared": counts["generation"],
            "differing_outputs": len({finding.location for finding in after_trace}),
            "divergence": divergence_by_module(*sides["trace"]),
        },
        findings=tuple(findings),
    )
