"""What the self-test says of one fault, and of all of them.

In: a fault, and the findings that a judge made without being told of it. Out: a check a fault, and the rates.
"""

import re
from collections.abc import Sequence

from theworld_validate.compare.causes import classify
from theworld_validate.compare.explain import contradictions, rank_roots
from theworld_validate.faults.base import Fault
from theworld_validate.results import CheckResult, Finding, InputError, Status

REQUIRED = {"detected": 1.0, "location": 0.95, "cause": 0.95}
THREADS = 1  # two workers at once, each with a core of its own


def judge_findings(fault: Fault, findings: Sequence[Finding], *, seconds: float) -> CheckResult:
    """The check passes if the fault is detected, its first place is right and its cause is named."""
    roots = rank_roots(findings)
    first = roots[0] if roots else None
    cause = classify(first) if first is not None else None
    verdicts = {
        "detected": any(finding.section == fault.section for finding in findings),
        "location_right": first is not None and re.search(fault.location, first.location) is not None,
        "cause_right": cause in fault.causes,
    }
    missed = [what for what, right in verdicts.items() if not right]
    causes = " or ".join(fault.causes)
    failures = [
        Finding(
            code=f"selftest.{what}",
            location=fault.name,
            message=f"{fault.name}: not {what.replace('_', ' ')}",
            expected=f"{fault.section}: {causes} at {fault.location or 'any place'}",
            actual=f"{first.code}: {cause} at {first.location}" if first is not None else "no finding",
            cause="the checks do not see this fault, or the ranking of causes puts another finding first",
            remedy="look at what the section observes, and at theworld_validate/compare",
        )
        for what in missed
    ]
    failures += [
        Finding(
            code="selftest.contradiction",
            location=fault.name,
            message=f"{fault.name}: {sentences}",
            cause="two findings of one report contradict each other",
            remedy="look at theworld_validate/compare/explain.py",
        )
        for sentences in contradictions(findings)
    ]
    return CheckResult(
        id=f"selftest.{fault.name}",
        status=Status.FAILED if failures else Status.PASSED,
        seconds=seconds,
        measurements={
            **verdicts,
            "group": fault.group,
            "seen": fault.seen,
            "likely_cause": str(cause) if cause else None,
            "likely_code": first.code if first is not None else None,
            "likely_location": first.location if first is not None else None,
            "roots": len(roots),
            "findings": len(findings),
        },
        findings=tuple(failures),
    )


def broken_off(error: InputError, *, section: str | None) -> Finding:
    """A fault that nobody gets past: it is told of in one line. Of a section only where that is what must catch it."""
    return Finding(
        code="files.refused",
        location=str(error),
        message=str(error),
        section=section,
        field="refused",
    )


def rates_of(checks: Sequence[CheckResult]) -> CheckResult:
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
