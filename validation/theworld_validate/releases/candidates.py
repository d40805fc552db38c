"""A candidate inside of one release, against the checkpoint's own class there.

In: what both gave in the same release. Out: one check.
"""

from dataclasses import replace

from theworld_validate.compare.explain import rank_roots
from theworld_validate.documents.observations import EMPTY
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.releases.safety import unsafe_findings
from theworld_validate.releases.seen import Seen
from theworld_validate.results import CheckResult, Finding, Plan, Status, combine

_SECTIONS = ("config", "modules", "parameters", "buffers", "globals", "gradients")
_SHOWN = 5


def judge_candidate(base: Seen, candidate: Seen, probes: tuple[str, ...]) -> CheckResult:
    """Compare bit for bit: within one release nothing may differ."""
    check_id = f"releases.{candidate.version}.candidate"
    if candidate.file is None or base.file is None:
        failed = base if base.file is None else candidate  # where both fail, it is not the candidate's doing
        who = "the candidate" if failed is candidate else "the checkpoint's own class"
        finding = Finding(
            code="releases.failed",
            location=candidate.version,
            message=f"{candidate.version}: {who} failed: {failed.failure}",
            cause="it cannot be loaded or run with this release",
            remedy="leave the release out, or make the candidate work with it",
        )
        status = Status.FAILED if failed is candidate else Status.INCONCLUSIVE
        return CheckResult(id=check_id, status=status, seconds=candidate.seconds, findings=(finding,))
    unsafe = tuple(unsafe_findings(candidate.loading, "the candidate loads with")) if candidate.loading else ()
    comparison = Comparison(
        plan=Plan(sections=tuple(name for name in _SECTIONS if name in base.file.plan.sections), probes=probes),
        reference=Side(fingerprint=base.file.fingerprint),
        candidate=Side(fingerprint=candidate.file.fingerprint or EMPTY),
    )
    checks = explain_checks(list(judge(comparison)), gather_evidence(comparison, {}))
    roots = rank_roots([f for check in checks if check.status is not Status.PASSED for f in check.findings])
    verdict = combine([check.status for check in checks])
    if any(finding.severity == "error" for finding in unsafe):
        verdict = Status.FAILED
    compared = sum(n for check in checks if isinstance(n := check.measurements.get("tensors_compared"), int))
    return CheckResult(
        id=check_id,
        status=verdict,
        reason=None if verdict is not Status.PASSED else "equal to the checkpoint's own class, bit for bit",
        seconds=candidate.seconds,
        measurements={"tensors_compared": compared},
        findings=tuple(replace(finding) for finding in (*unsafe, *roots[:_SHOWN])),
    )
