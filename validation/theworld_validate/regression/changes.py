"""What changed between two checks or reports, as findings.

In: what was and what is. Out: `Finding`s with clean lines, and a `Comparison`: how much was compared, and what of it
is worse.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from theworld_validate.results import CheckResult, Finding, Measurements, Scalar, Status

_REMEDY = "mend it, or take the new report as the baseline on purpose: --update"
_MAX_LOCATION = 300


@dataclass(slots=True)
class Comparison:
    """A running comparison.

    Args:
        compared: how many things both reports have.
        not_compared: how many the baseline has without a value.
    """

    compared: int = 0
    not_compared: int = 0
    findings: list[Finding] = field(default_factory=list)

    def to_check(self, name: str, explanation: str, *, nothing: str | None = None) -> CheckResult:
        """The check of this comparison.

        Args:
            explanation: the cause of every finding that has none.
            nothing: why a comparison of nothing is inconclusive; None if it is skipped.
        """
        status, reason = Status.PASSED, None
        if any(finding.severity == "error" for finding in self.findings):
            status = Status.FAILED
        elif not self.compared:
            status = Status.SKIPPED if nothing is None else Status.INCONCLUSIVE
            reason = nothing or "the baseline has none to compare"
        measurements: Measurements = {"compared": self.compared}
        if self.not_compared:
            measurements["not_compared"] = self.not_compared
        return CheckResult(
            id=f"regress.{name}",
            status=status,
            reason=reason,
            seconds=0.0,
            measurements=measurements,
            findings=tuple(_explained(finding, explanation) for finding in self.findings),
        )


def _explained(finding: Finding, explanation: str) -> Finding:
    if finding.explained_by is not None:
        return finding
    return replace(finding, cause=finding.cause or explanation, remedy=finding.remedy or _REMEDY)


def find_change(
    code: str,
    location: str,
    what: str,
    was: Scalar,
    now: Scalar,
    *,
    severity: Literal["error", "warning"] = "error",
    explained_by: str | None = None,
    remedy: str | None = None,
) -> Finding:
    """A value that was another."""
    line = _one_line()
    location = line(location, _MAX_LOCATION)
    return Finding(
        code=f"regress.{code}",
        severity=severity,
        location=location,
        message=line(f"{location}: {what} was {was}, is {now}", 600),
        expected=was,
        actual=now,
        explained_by=explained_by,
        remedy=remedy,
    )


def find_news(
    code: str,
    location: str,
    what: str,
    *,
    severity: Literal["error", "warning"] = "error",
    cause: str | None = None,
    remedy: str | None = None,
) -> Finding:
    """Something that was not there."""
    line = _one_line()
    location = line(location, _MAX_LOCATION)
    return Finding(
        code=f"regress.{code}",
        severity=severity,
        location=location,
        message=line(f"{location}: {what}", 600),
        cause=cause,
        remedy=remedy,
    )


def _one_line() -> Callable[[object, int], str]:
    from theworld.checkpoints.error_text import one_line

    return one_line
