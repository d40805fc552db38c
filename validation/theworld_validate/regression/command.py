"""A report against its baseline on disk, or taken as the new one.

In: two places, and a file of limits. Out: check results. Everything is read and judged before anything is written.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from theworld_validate.documents.report import read_report
from theworld_validate.regression.baselines import find_baseline, is_there, write_baseline
from theworld_validate.regression.limits import read_limits
from theworld_validate.regression.reports import compare_reports
from theworld_validate.regression.upgrades import judge_upgrade, only_baseline_in
from theworld_validate.results import CheckResult, InputError, Status


def compare_with_baseline(
    baseline: Path,
    current: Path,
    *,
    budget: Path | None = None,
    update: bool = False,
    accept_rounding: bool = False,
) -> Iterator[CheckResult]:
    """Compare a report with a baseline.

    Args:
        baseline: a report, or a folder with one for each environment.
        update: show the difference, and take the current report as the baseline.
        accept_rounding: a baseline of another environment counts if the fingerprints beside both are equivalent.

    Raises:
        InputError: if something cannot be read, or the current report cannot be a baseline.
    """
    limits = read_limits(budget)
    if not is_there(current):
        from theworld.checkpoints.error_text import one_line

        raise InputError(f"{one_line(current)}: no such report; make it with --output")
    report = read_report(current)
    found = None if update and not is_there(baseline) else find_baseline(baseline, report)
    if found is None and accept_rounding and not update:
        found = only_baseline_in(baseline)
    old = None if found is None else read_report(found)
    if not update:
        if old is None or found is None:
            reason = "no baseline of this environment; --update makes it from the current report"
            yield CheckResult(id="regress.baseline", status=Status.INCONCLUSIVE, reason=reason, seconds=0.0)
        else:
            settle = None
            if accept_rounding:
                settle = partial(judge_upgrade, baseline=(found, old), current=(current, report))
            yield from compare_reports(old, report, limits, settle)
        return
    written = str(write_baseline(baseline, report, replaces=old))
    yield CheckResult(
        id="regress.update",
        status=Status.PASSED,
        reason=f"taken as the baseline: {written}",
        seconds=0.0,
        measurements={"baseline": written, "compared": len(report.checks)},
    )
    if old is not None:
        yield from map(_as_shown, compare_reports(old, report, limits))


def _as_shown(check: CheckResult) -> CheckResult:
    """A difference that was taken on purpose: shown, and no failure."""
    findings = tuple(replace(finding, severity="warning") for finding in check.findings)
    return replace(check, status=Status.SKIPPED, reason=check.reason or "shown: the baseline is new", findings=findings)
