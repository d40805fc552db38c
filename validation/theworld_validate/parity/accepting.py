"""What parity and diff say when rounding is accepted: the strict checks, with numbers judged by the referee.

In: a comparison, and the truth's side. Out: the same checks. Those of state, files and the round trip stay exact; of
probes and gradients only what the referee calls different fails; and a check of the judgement itself. A difference of
computing stays an error where it is the root of something that failed, and is shown otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from theworld_validate.compare import judgement as referee
from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.judgement import Judgement, Verdict
from theworld_validate.compare.tally import Judged
from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.results import CheckResult, Finding, Measurement, Plan, Status

Accept = Literal["identical", "equivalent"]
ACCEPT = ("identical", "equivalent")
JUDGEMENT, CONTROL = "parity.judgement", "parity.control"
_CHECKED_ELSEWHERE = ("files", "round_trip")
_STATUS = {
    Verdict.IDENTICAL: Status.PASSED,
    Verdict.EQUIVALENT: Status.PASSED,
    Verdict.DIFFERENT: Status.FAILED,
    Verdict.UNDECIDABLE: Status.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Checks in which rounding is no failure, and the judgement that they rest on."""

    checks: tuple[CheckResult, ...]
    judgement: Judgement


def accept_equivalent(comparison: Comparison, truth: Side | None) -> Accepted:
    """Judge a comparison of which numbers may be rounded otherwise.

    Args:
        truth: the reference in a wider dtype, with sketches; None where there is none.
    """
    true = None if truth is None or truth.ended else truth.fingerprint
    control = None if comparison.control is None else comparison.control.fingerprint
    plan = _plan_of_numbers(comparison.plan)
    judged = referee.judge(comparison.expected, comparison.actual, true, control=control, plan=plan)
    parts = {part.name: part for part in judged.parts}
    checks = [_judgement_check(judged, truth)]
    if control is not None:
        checks.append(_judge_control(comparison, control, true, plan))
    for check in judge(replace(comparison, control=None)):
        probe = "gradients" if check.id == "parity.gradients" else check.measurements.get("probe")
        part = parts.get(str(probe))
        checks.append(check if part is None else _with_numbers(check, part, judged))
    return Accepted(checks=tuple(checks), judgement=judged)


def settle(checks: Sequence[CheckResult], judgement: Judgement) -> list[CheckResult]:
    """Show differences of computing that explain no failure as warnings; a check that has no error left passes."""
    ways = {finding.key for finding in judgement.computing}
    failed = [check for check in checks if check.status is Status.FAILED and check.id != JUDGEMENT]
    errors = [f for check in failed for f in check.findings if f.severity == "error" and f.key not in ways]
    roots = {finding.explained_by for finding in errors}
    return [_settled(check, ways, roots) for check in checks]


def _settled(check: CheckResult, ways: set[str], roots: set[str | None]) -> CheckResult:
    if check.id == JUDGEMENT or check.status is not Status.FAILED:
        return check
    is_shown = [f.key in ways and f.key not in roots and f.explained_by not in roots for f in check.findings]
    if not any(is_shown):
        return check
    findings = tuple(
        replace(finding, severity="warning") if shown else finding
        for finding, shown in zip(check.findings, is_shown, strict=True)
    )
    if any(finding.severity == "error" for finding in findings):
        return replace(check, findings=findings)
    reason = f"{sum(is_shown)} differences of computing, judged by their numbers: see {JUDGEMENT}"
    return replace(check, status=Status.PASSED, reason=reason, findings=findings)


def _plan_of_numbers(plan: Plan) -> Plan:
    return replace(plan, sections=tuple(name for name in plan.sections if name not in _CHECKED_ELSEWHERE))


def _judgement_check(judged: Judgement, truth: Side | None) -> CheckResult:
    verdict, worst = judged.verdict, judged.worst
    reason = f"{verdict}: {judged.reason}"
    if truth is not None and truth.ended and verdict is Verdict.UNDECIDABLE:
        reason = f"{verdict}: the truth was not delivered: {truth.ended}"
    return CheckResult(
        id=JUDGEMENT,
        status=_STATUS[verdict],
        reason=reason,
        seconds=0.0,
        measurements={
            "verdict": str(verdict),
            "worst_ratio": None if worst is None else round(worst.ratio, 3),
            "worst_place": None if worst is None else worst.location,
            "bound": judged.bounds.ratio,
            "gradient_bound": judged.bounds.gradient_ratio,
            "places_identical": sum(part.num_identical for part in judged.parts),
            "places_judged": sum(part.num_judged for part in judged.parts),
            "places_in_other_code": sum(part.num_elsewhere for part in judged.parts),
            "differences_of_computing": len(judged.computing),
        },
    )


def _judge_control(comparison: Comparison, again: Fingerprint, true: Fingerprint | None, plan: Plan) -> CheckResult:
    """The reference with itself: rounding that differs from run to run is noise, anything else proves nothing."""
    expected = comparison.expected
    sections = {name: seen for name, seen in expected.sections.items() if name not in (*PROBE_SECTIONS, "gradients")}
    whole = replace(again, sections={**again.sections, **sections})
    judged = referee.judge(expected, whole, true, plan=plan)
    assert comparison.control is not None
    ended = comparison.reference.ended or comparison.control.ended
    is_sound = judged.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT) and not ended
    noise = [
        replace(finding, severity="warning")
        for name in (*PROBE_SECTIONS, "gradients")
        for finding in diff_section(name, expected.sections.get(name, {}), again.sections.get(name, {}))
    ]
    worst = judged.worst
    return CheckResult(
        id=CONTROL,
        status=Status.PASSED if is_sound else Status.INCONCLUSIVE,
        reason=None
        if judged.verdict is Verdict.IDENTICAL and not ended
        else ended or f"{judged.verdict}: {judged.reason}",
        seconds=0.0,
        measurements={
            "tensors_compared": sum(part.num_identical + part.num_judged for part in judged.parts),
            "worst_ratio": None if worst is None else round(worst.ratio, 3),
        },
        findings=tuple(noise),
    )


def _with_numbers(check: CheckResult, part: Judged, judged: Judgement) -> CheckResult:
    """A check of a probe, or of the gradients, by what the referee says of its numbers."""
    if check.status is Status.PASSED:
        return check
    kept: list[Finding] = [f for f in check.findings if f.field in ("raised", "non_finite", "output_class")]
    findings = [*kept, *(f for f in part.findings if f.key not in {other.key for other in kept})]
    worst = part.worst
    figures: dict[str, Measurement] = {
        "places_identical": part.num_identical,
        "places_judged": part.num_judged,
        "worst_ratio": None if worst is None else round(worst.ratio, 3),
        "worst_place": None if worst is None else worst.location,
    }
    status, reason = Status.PASSED, "not bit for bit: rounded otherwise"
    if worst is not None:
        bound = judged.bounds.of(worst.section, worst.location)
        reason = f"not bit for bit: the worst place is {worst.ratio:.2f} times its rounding, bound {bound:g}"
    if check.status is not Status.FAILED:
        status, reason = check.status, check.reason or ""
    elif any(finding.severity == "error" for finding in findings):
        status, reason = Status.FAILED, ""
    elif part.missing:
        status, reason = Status.INCONCLUSIVE, f"evidence is missing: {part.missing[0]}"
    return replace(
        check,
        status=status,
        reason=reason or None,
        findings=tuple(findings),
        measurements={**check.measurements, **figures},
    )
