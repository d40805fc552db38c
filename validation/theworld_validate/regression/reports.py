"""Report against report: what passed and no longer does, what is new, what vanished, and what costs more.

In: a baseline and a current report, and limits. Out: check results; each finding says what changed, from what to what,
and the first difference between the environments that could explain it. What cannot be held against each other is
shown for reading, and is never a pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from theworld_validate.regression.baselines import why_no_baseline
from theworld_validate.regression.changes import Comparison, find_change, find_news
from theworld_validate.regression.figures import Pair, compare_counts, compare_memory
from theworld_validate.regression.keys import KEY, differing_facts, differing_keys, differing_subjects, in_words
from theworld_validate.regression.limits import Limits
from theworld_validate.regression.times import check_times
from theworld_validate.results import CheckResult, Finding, Report, Status

Checks = Mapping[str, CheckResult]
_ENVIRONMENT = "regress.environment"


def compare_reports(
    baseline: Report, current: Report, limits: Limits, settle: Callable[[CheckResult], CheckResult] | None = None
) -> Iterator[CheckResult]:
    """Compare two reports.

    Args:
        settle: given `regress.environment` where the environments differ, it may say that this changes nothing.

    Yields:
        `regress.baseline`, `regress.environment` and `regress.subjects`: whether the baseline can be held against; if
        one of them is inconclusive, so are the others, which are then for reading. `regress.verdict` is the current
        report's own. Then `regress.checks`, `.findings`, `.counts`, `.memory` and `.time`.
    """
    standing = [check(baseline, current) for check in (_check_baseline, _check_environment, _check_subjects)]
    if settle is not None and baseline.environment is not None and current.environment is not None:
        standing = [
            settle(check) if check.id == _ENVIRONMENT and check.status is Status.INCONCLUSIVE else check
            for check in standing
        ]
    yield from standing
    before = {check.id: check for check in baseline.checks}
    yield _check_verdict(current, before)
    after = {check.id: check for check in current.checks}
    pairs = [(before[name], after[name]) for name in before if name in after]
    explanation = _explain(baseline, current)
    changes = (
        _compare_checks(before, after).to_check("checks", explanation, nothing="no check ran in both reports"),
        _compare_findings(pairs).to_check("findings", explanation),
        compare_counts(pairs).to_check("counts", explanation),
        compare_memory(pairs, limits).to_check("memory", explanation),
        check_times(baseline, current, pairs, limits, explanation),
    )
    obstacle = next((check for check in standing if check.status is Status.INCONCLUSIVE), None)
    for check in changes:
        if obstacle is None or check.status is Status.SKIPPED:
            yield check
        else:
            yield replace(check, status=Status.INCONCLUSIVE, reason=f"for reading only, see {obstacle.id}")


def _standing(name: str, obstacle: str | None, compared: int) -> CheckResult:
    return CheckResult(
        id=f"regress.{name}",
        status=Status.PASSED if obstacle is None else Status.INCONCLUSIVE,
        reason=obstacle,
        seconds=0.0,
        measurements={"compared": compared},
    )


def _check_baseline(baseline: Report, current: Report) -> CheckResult:
    from theworld.checkpoints.error_text import shown_name

    obstacle = why_no_baseline(baseline)
    if obstacle is not None:
        obstacle = f"the baseline cannot be held against: {obstacle}"
    elif baseline.command != current.command:
        was, now = (shown_name(repr(report.command)) for report in (baseline, current))
        obstacle = f"the baseline is of {was}, this is of {now}"
    return _standing("baseline", obstacle, compared=1)


def _check_environment(baseline: Report, current: Report) -> CheckResult:
    if baseline.environment is None or current.environment is None:
        whose = "the baseline" if baseline.environment is None else "the current report"
        return _standing("environment", f"{whose} does not say where it was made", compared=0)
    differences = differing_keys(baseline.environment, current.environment)
    obstacle = f"another environment than the baseline's: {in_words(differences)}" if differences else None
    return _standing("environment", obstacle, compared=len(KEY))


def _check_subjects(baseline: Report, current: Report) -> CheckResult:
    if not baseline.subjects and not current.subjects:
        reason = "neither report names what it is about"
        return CheckResult(id="regress.subjects", status=Status.SKIPPED, reason=reason, seconds=0.0)
    if not baseline.subjects or not current.subjects:
        whose = "the baseline" if not baseline.subjects else "the current report"
        return _standing("subjects", f"{whose} does not name what it is about", compared=0)
    differences = differing_subjects(baseline.subjects, current.subjects)
    obstacle = f"about something else than the baseline: {in_words(differences)}" if differences else None
    return _standing("subjects", obstacle, compared=len(current.subjects))


def _check_verdict(current: Report, before: Checks) -> CheckResult:
    """The current report's own verdict: what did not pass by itself is no pass beside a baseline."""
    compared = len(current.checks)
    if current.verdict is Status.PASSED:
        return _standing("verdict", None, compared)
    bad = [check for check in current.checks if check.status in (Status.FAILED, Status.ERROR, Status.INCONCLUSIVE)]
    what = f"; the first check that did not pass is {bad[0].id} ({bad[0].status})" if bad else "; no check passed"
    if current.verdict is Status.INCONCLUSIVE:
        return _standing("verdict", f"the current report is inconclusive{what}", compared)
    finding = find_news("verdict", "the current report", f"its verdict is {current.verdict}{what}")
    if bad[0].id not in before:
        finding = replace(finding, explained_by=f"regress.new_check@{bad[0].id}")
    elif before[bad[0].id].status is not bad[0].status:
        finding = replace(finding, explained_by=f"regress.status@{bad[0].id}")
    else:
        cause = "the report does not pass by itself, whatever the baseline says"
        finding = replace(finding, cause=cause, remedy="read its own findings first")
    return Comparison(compared=compared, findings=[finding]).to_check("verdict", "")


def _explain(baseline: Report, current: Report) -> str:
    """The first difference between the environments that could explain a change, or between the subjects."""
    differences = []
    if baseline.environment is not None and current.environment is not None:
        differences += differing_facts(baseline.environment, current.environment)
    if baseline.subjects and current.subjects:
        differences += differing_subjects(baseline.subjects, current.subjects)
    if not differences:
        return "the environments are the same: the code, the checkpoint or the options changed"
    return in_words(differences[:1])


def _compare_checks(before: Checks, after: Checks) -> Comparison:
    comparison = Comparison()
    for name, check in before.items():
        if name not in after:
            comparison.findings.append(find_change("vanished", name, "the check", str(check.status), "missing"))
            continue
        status = after[name].status
        comparison.compared += status is not Status.SKIPPED and check.status is not Status.SKIPPED
        if status is not check.status:
            root = next((new.key for new in _new_findings(check, after[name]) if new.severity == "error"), None)
            comparison.findings.append(
                find_change(
                    "status",
                    name,
                    "status",
                    str(check.status),
                    str(status),
                    severity="warning" if status is Status.PASSED else "error",
                    explained_by=None if status is Status.PASSED else root,
                )
            )
    for name, check in after.items():
        if name not in before:
            is_harmless = check.status in (Status.PASSED, Status.SKIPPED)
            what = f"a check that the baseline has not: {check.status}"
            comparison.findings.append(
                find_news("new_check", name, what, severity="warning" if is_harmless else "error")
            )
    return comparison


def _compare_findings(pairs: Sequence[Pair]) -> Comparison:
    """Find what the baseline's checks did not report; a warning too, and one that has become an error."""
    comparison = Comparison(compared=sum(Status.SKIPPED not in (one.status, other.status) for one, other in pairs))
    for before, after in pairs:
        comparison.findings += _new_findings(before, after)
    return comparison


def _new_findings(before: CheckResult, after: CheckResult) -> list[Finding]:
    known = {_identity(finding) for finding in before.findings}
    return [
        find_news(
            "new_finding",
            f"{after.id} {finding.location}",
            f"new {finding.severity}: {finding.message} ({finding.code})",
            cause=finding.cause,
            remedy=finding.remedy,
        )
        for finding in after.findings
        if _identity(finding) not in known
    ]


def _identity(finding: Finding) -> tuple[str | None, ...]:
    return (finding.code, finding.location, finding.section, finding.field, finding.severity)
