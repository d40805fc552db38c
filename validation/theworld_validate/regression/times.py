"""Times of two reports, as ratios to each process's own calibration run.

In: two reports and limits. Out: `regress.time`: a table of what took long, and findings where the limits ask for a
judgement. Two machines whose calibration runs are far apart are not held against each other.
"""

from collections.abc import Sequence
from dataclasses import replace

from theworld_validate.regression.changes import Comparison, find_change
from theworld_validate.regression.figures import Pair
from theworld_validate.regression.limits import Limits
from theworld_validate.results import CheckResult, Report, Row, Status

MAX_CALIBRATION_RATIO = 3.0  # beyond it, a machine was busy or is another: hashing no longer scales as the work does


def check_times(
    baseline: Report, current: Report, pairs: Sequence[Pair], limits: Limits, explanation: str
) -> CheckResult:
    """Show times, and judge them where the limits have a growth.

    Returns:
        Skipped where nothing is judged; inconclusive where it should be and cannot.
    """
    units = _units(baseline, current)
    timed = [("the whole command", baseline.seconds, current.seconds)]
    timed += [(before.id, before.seconds, after.seconds) for before, after in pairs]
    comparison, rows = Comparison(), list[Row]()
    for name, was, now in timed:
        if was < limits.min_seconds:
            continue
        was_units, now_units = (None, None) if units is None else (was / units[0], now / units[1])
        ratio = None if was_units is None or now_units is None else now_units / was_units
        rows.append({"step": name, "baseline_seconds": was, "current_seconds": now, "over_calibration_ratio": ratio})
        if limits.time_growth is None or was_units is None or now_units is None:
            continue
        comparison.compared += 1
        if now_units > was_units * (1 + limits.time_growth):
            what = "time over the calibration run"
            comparison.findings.append(find_change("time", name, what, round(was_units, 1), round(now_units, 1)))
    check = comparison.to_check("time", explanation)
    if rows:
        check = replace(check, measurements={**check.measurements, "times": rows})
    if limits.time_growth is None:
        return replace(check, reason="shown, and not judged: the limits have no [time] section")
    if (obstacle := _obstacle(units)) is not None:
        return replace(check, status=Status.INCONCLUSIVE, reason=obstacle)
    if not rows:
        return replace(check, reason=f"nothing took {limits.min_seconds:g} s in the baseline")
    return check


def _units(baseline: Report, current: Report) -> tuple[float, float] | None:
    """The seconds of both calibration runs."""
    if baseline.environment is None or current.environment is None:
        return None
    was, now = baseline.environment.calibration_seconds, current.environment.calibration_seconds
    return None if was is None or now is None or was <= 0 or now <= 0 else (was, now)


def _obstacle(units: tuple[float, float] | None) -> str | None:
    """Why times cannot be judged."""
    if units is None:
        return "times cannot be judged: a report has no calibration run"
    if max(units) > MAX_CALIBRATION_RATIO * min(units):
        return (
            f"times cannot be judged: the calibration run took {units[0]:.3g} s and takes {units[1]:.3g} s, "
            f"more than {MAX_CALIBRATION_RATIO:g} times apart"
        )
    return None
