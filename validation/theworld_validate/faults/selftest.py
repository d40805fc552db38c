"""The self-test: every known fault, injected alone into a fresh candidate, must be caught, placed and explained.

In: a subject, probes and the catalogue. Out: one check a fault, one for the base against itself, and the rates. Checks
are used as they are: nothing here tells them what was injected.
"""

import contextlib
import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from theworld_validate.documents.observations import PROBE_LAYERS, Fingerprint
from theworld_validate.faults.catalogue import CATALOGUE, Fault
from theworld_validate.fingerprint.behaviour import fingerprint_behaviour
from theworld_validate.fingerprint.take import take_fingerprint
from theworld_validate.parity.check import compare_fingerprints
from theworld_validate.parity.second_look import rank_with_second_look
from theworld_validate.probes.gemma3 import Probe
from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.subjects.subject import REFERENCE_TARGET, Subject

REQUIRED = {"detected": 1.0, "location": 0.95, "cause": 0.90}
NUM_BASE_RUNS = 20
_BASE_GRID = (("float32", "sdpa"), ("float32", "eager"), ("bfloat16", "sdpa"), ("bfloat16", "eager"))


def run_selftest(
    subject: Subject,
    probes: Sequence[Probe],
    *,
    faults: Sequence[Fault] | None = None,
    num_base_runs: int = NUM_BASE_RUNS,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Inject every fault, and compare the base with itself.

    Args:
        subject: the candidate, without a fault; the reference is the base class, loaded the same way.
        faults: all of the catalogue by default.
        num_base_runs: base-against-base comparisons, over seeds, dtypes and attention implementations.
        progress: called with a line before each of `count_steps` steps.
    """
    import torch

    faults = list(CATALOGUE.values()) if faults is None else faults
    progress("reference")
    with restored_globals():
        reference = replace(subject, target=REFERENCE_TARGET).load()
        expected = take_fingerprint(reference, probes, seed=subject.seed)
    checks = []
    for fault in faults:
        progress(fault.name)
        if fault.needs_cuda and not torch.cuda.is_available():
            reason = "this fault cannot exist without a CUDA device"
            checks.append(CheckResult(id=f"selftest.{fault.name}", status=Status.SKIPPED, reason=reason, seconds=0.0))
            continue
        checks.append(_try_fault(fault, subject, reference, expected, probes))
    del reference
    checks.append(_rates(checks))
    if num_base_runs:
        checks.append(_base_against_base(subject, probes, num_base_runs, progress))
    return tuple(checks)


def count_steps(num_faults: int | None = None, num_base_runs: int = NUM_BASE_RUNS) -> int:
    """How many times `run_selftest` reports progress."""
    return 1 + (len(CATALOGUE) if num_faults is None else num_faults) + num_base_runs


@contextlib.contextmanager
def restored_globals() -> Iterator[None]:
    """Leave torch's global state as it was, whatever a fault does to it."""
    import torch

    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            gc.collect()


def _try_fault(
    fault: Fault, subject: Subject, reference: Any, expected: Fingerprint, probes: Sequence[Probe]
) -> CheckResult:
    """Inject one fault; the check passes if it is detected, its first place is right and its cause is named."""
    started = time.perf_counter()
    with restored_globals(), fault.around():
        candidate = fault.load_spoilt(subject)
        actual = take_fingerprint(candidate, probes, seed=subject.seed)
        compared = compare_fingerprints(expected, actual, None, seconds=0.0)
        findings = [finding for check in compared for finding in check.findings]
        ranked = rank_with_second_look(reference, candidate, findings, probes, seed=subject.seed) if findings else []
    cause, code, location = ranked[0] if ranked else (None, "", "")
    detected = any(finding.code.split(".")[0] == fault.layer for finding in findings)
    verdicts = {
        "detected": detected,
        "location_right": bool(ranked) and re.search(fault.location, location) is not None,
        "cause_right": cause in fault.causes,
    }
    missed = [what for what, right in verdicts.items() if not right]
    causes = " or ".join(fault.causes)
    return CheckResult(
        id=f"selftest.{fault.name}",
        status=Status.FAILED if missed else Status.PASSED,
        seconds=time.perf_counter() - started,
        measurements={
            **verdicts,
            "group": fault.group,
            "seen": fault.seen,
            "likely_cause": str(cause) if cause else None,
            "likely_code": code,
            "likely_location": location,
        },
        findings=tuple(
            Finding(
                code=f"selftest.{what}",
                location=fault.name,
                message=f"{fault.name}: not {what.replace('_', ' ')}",
                expected=f"{fault.layer}: {causes} at {fault.location or 'any place'}",
                actual=f"{code}: {cause} at {location}" if ranked else "no finding",
                cause="the checks do not see this fault, or the ranking of causes puts another finding first",
                remedy="look at validation/fingerprint for what is observed, and at validation/attribution.py",
            )
            for what in missed
        ),
    )


def _rates(checks: Sequence[CheckResult]) -> CheckResult:
    """The rates over all faults that ran; a single fault may be misplaced, but not too many."""
    ran = [check for check in checks if check.status is not Status.SKIPPED]
    if not ran:
        reason = "no fault could be injected here"
        return CheckResult(id="selftest.rates", status=Status.INCONCLUSIVE, reason=reason, seconds=0.0)
    rates = {
        what: sum(bool(check.measurements[key]) for check in ran) / len(ran)
        for what, key in (("detected", "detected"), ("location", "location_right"), ("cause", "cause_right"))
    }
    findings = tuple(
        Finding(
            code=f"selftest.rate_{what}",
            location="catalogue",
            message=f"{what} right for {rates[what]:.1%} of {len(ran)} faults, required {required:.0%}",
            expected=required,
            actual=rates[what],
        )
        for what, required in REQUIRED.items()
        if rates[what] < required
    )
    return CheckResult(
        id="selftest.rates",
        status=Status.FAILED if findings else Status.PASSED,
        seconds=0.0,
        measurements={
            "faults": len(ran),
            "skipped": len(checks) - len(ran),
            **{f"{what}_rate": rate for what, rate in rates.items()},
        },
        findings=findings,
    )


def _base_against_base(
    subject: Subject, probes: Sequence[Probe], num_runs: int, progress: Callable[[str], None]
) -> CheckResult:
    """Two loads of the base class, compared over seeds, dtypes and attention: any finding would be false."""
    started = time.perf_counter()
    findings: list[Finding] = []
    done = 0
    for position, (dtype, attn) in enumerate(_BASE_GRID):
        base = replace(subject, target=REFERENCE_TARGET, dtype=dtype, attn=attn)
        with restored_globals():
            models = [base.load() for _ in range(2)]
            states = [take_fingerprint(model, (), seed=0) for model in models]
            for seed in range(len(range(position, num_runs, len(_BASE_GRID)))):
                progress(f"base against base: {dtype}, {attn}, seed {seed}")
                seen = [
                    state.merge(fingerprint_behaviour(model, probes, seed=seed))
                    for model, state in zip(models, states, strict=True)
                ]
                assert all(layer in seen[0].layers for layer in PROBE_LAYERS)
                compared = compare_fingerprints(seen[0], seen[1], None, seconds=0.0)
                findings += [finding for check in compared for finding in check.findings]
                done += 1
    return CheckResult(
        id="selftest.base_against_base",
        status=Status.FAILED if findings else Status.PASSED,
        seconds=time.perf_counter() - started,
        measurements={"runs": done, "false_findings": len(findings)},
        findings=tuple(findings),
    )
