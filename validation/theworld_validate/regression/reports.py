"""Report against report: what passed and no longer does, what is new, what vanished, and what costs more.

In: a baseline's report and a current one, as JSON, and limits. Out: check results; each finding says what changed,
from what to what, and the first difference between the environments that could explain it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from theworld_validate.results import CheckResult, Finding, Status

# What makes two reports comparable, in the order in which a difference is likely to explain another.
_KEY = ("torch", "transformers", "diffusers", "gpu", "cuda", "machine", "processor", "python")
# Tables that show and do not gate: who asked for memory, what would make it fit, and rows that have no name.
_NOT_COMPARED = {"owners", "levers", "changes"}
_WORKLOAD = ("world_tokens", "text_tokens", "batch")

Report = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may grow by how much.

    Args:
        memory_growth: share by which a peak of memory may grow.
        time_growth: share by which a time may grow, as a ratio to the calibration run of its process.
        min_seconds: checks and steps that took less in the baseline are not timed.
    """

    memory_growth: float = 0.02
    time_growth: float = 0.20
    min_seconds: float = 5.0


def environment_key(environment: dict[str, Any]) -> dict[str, Any]:
    """What a baseline is keyed by; Python's patch release does not count."""
    flat = {**environment, **environment.get("packages", {})}
    key = {name: flat.get(name) for name in _KEY}
    return {**key, "python": ".".join(str(key["python"]).split(".")[:2])}


def compare_reports(baseline: Report, current: Report, limits: Limits) -> tuple[CheckResult, ...]:
    """Compare two reports.

    Returns:
        `regress.environment` (inconclusive where the baseline is of another environment; the rest is then for
        reading, and no pass), `regress.checks`, `regress.findings`, `regress.counts`, `regress.memory` and
        `regress.time`.
    """
    explanation = _explain(baseline["environment"], current["environment"])
    before = {check["id"]: check for check in baseline["checks"]}
    after = {check["id"]: check for check in current["checks"]}
    pairs = [(before[name], after[name]) for name in before if name in after]
    environment = _environment(baseline, current)
    changes = (
        _result("checks", len(before), _check_changes(before, after), explanation),
        _result("findings", len(pairs), _new_findings(before, after), explanation),
        _result("counts", *_compare(pairs, _counts, limits), explanation),
        _result("memory", *_compare(pairs, _memory, limits), explanation),
        _result("time", *_times(baseline, current, pairs, limits), explanation),
    )
    if environment.status is not Status.PASSED:
        reason = "for reading: the baseline is of another environment or command"
        changes = tuple(replace(check, status=Status.INCONCLUSIVE, reason=reason) for check in changes)
    return (environment, *changes)


def _explain(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The first environment difference that could explain a change."""
    flat = [{**environment, **environment.get("packages", {})} for environment in (before, after)]
    others = [name for name in flat[0] if name not in (*_KEY, "packages", "calibration_seconds", "platform")]
    for name in (*_KEY, *others):
        if flat[0].get(name) != flat[1].get(name):
            return f"{name} was {flat[0].get(name)}, is {flat[1].get(name)}"
    return "the environments are the same: the code, the checkpoint or the options changed"


def _environment(baseline: Report, current: Report) -> CheckResult:
    keys = [environment_key(report["environment"]) for report in (baseline, current)]
    differing = [name for name in keys[0] if keys[0][name] != keys[1][name]]
    reason = "; ".join(f"{name} was {keys[0][name]}, is {keys[1][name]}" for name in differing)
    is_same = baseline["command"] == current["command"]
    if not is_same:
        reason = f"the baseline is of {baseline['command']}, this is of {current['command']}"
    return CheckResult(
        id="regress.environment",
        status=Status.INCONCLUSIVE if differing or not is_same else Status.PASSED,
        reason=f"another environment than the baseline's: {reason}" if differing else reason or None,
        seconds=0.0,
        measurements={"compared": len(_KEY)},
    )


def _result(name: str, compared: int, findings: list[Finding], explanation: str) -> CheckResult:
    status = Status.FAILED if any(finding.severity == "error" for finding in findings) else Status.PASSED
    if not compared:
        return CheckResult(
            id=f"regress.{name}", status=Status.SKIPPED, reason="the baseline has none to compare", seconds=0.0
        )
    return CheckResult(
        id=f"regress.{name}",
        status=status,
        seconds=0.0,
        measurements={"compared": compared},
        findings=tuple(_explained(finding, explanation) for finding in findings),
    )


def _explained(finding: Finding, explanation: str) -> Finding:
    remedy = "mend it, or take the new report as the baseline on purpose: --update"
    return replace(finding, cause=explanation, remedy=finding.remedy or remedy)


def _change(code: str, location: str, what: str, was: Any, now: Any, *, severity: str = "error") -> Finding:
    message = f"{location}: {what} was {was}, is {now}" if was is not None else f"{location}: {what}"
    return Finding(
        code=f"regress.{code}", severity=severity, location=location, message=message, expected=was, actual=now
    )


def _check_changes(before: dict[str, Any], after: dict[str, Any]) -> list[Finding]:
    findings = []
    for name, check in before.items():
        status = after[name]["status"] if name in after else None
        if status is None:
            findings.append(_change("vanished", name, "the check", check["status"], "missing"))
        elif status != check["status"]:
            severity = "warning" if status == "passed" else "error"
            findings.append(_change("status", name, "status", check["status"], status, severity=severity))
    findings += [
        _change("new_check", name, "a check that the baseline has not", None, None, severity="warning")
        for name in after
        if name not in before
    ]
    return findings


def _new_findings(before: dict[str, Any], after: dict[str, Any]) -> list[Finding]:
    known = {(name, f["code"], f["location"]) for name, check in before.items() for f in check["findings"]}
    return [
        _change("new_finding", name, f"new {f['severity']}: {f['message']} ({f['code']})", None, None)
        for name, check in after.items()
        for f in check["findings"]
        if (name, f["code"], f["location"]) not in known
    ]


def _rows(measurements: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of figures: the check's own, and those of its tables, by what names them."""
    yield "", {name: value for name, value in measurements.items() if not isinstance(value, (list, dict))}
    for table, rows in measurements.items():
        if table in _NOT_COMPARED or not isinstance(rows, list):
            continue
        for row in rows:
            if isinstance(row, dict) and not any(isinstance(value, (list, dict)) for value in row.values()):
                named = [str(value) for name, value in row.items() if isinstance(value, str) or name in _WORKLOAD]
                yield f"{table}[{', '.join(named)}]", row


def _is_count(name: str, value: Any) -> bool:
    return isinstance(value, (int, bool)) and not _is_memory(name) and name not in _WORKLOAD


def _is_memory(name: str) -> bool:
    return name.endswith("_bytes") and name != "compared_bytes"


def _counts(name: str, was: Any, now: Any, _limits: Limits) -> bool | None:
    return was != now if _is_count(name, was) else None


def _memory(name: str, was: Any, now: Any, limits: Limits) -> bool | None:
    if not _is_memory(name) or not was:
        return None
    return now is None or now > was * (1 + limits.memory_growth)


def _compare(pairs: list[Any], judge: Any, limits: Limits) -> tuple[int, list[Finding]]:
    """Compare the figures that `judge` is for: it says whether one is a regression, or None."""
    compared, findings = 0, []
    code = judge.__name__.strip("_").removesuffix("s")
    for before, after in pairs:
        if after["status"] == "skipped":
            continue
        now = dict(_rows(after["measurements"]))
        for place, row in _rows(before["measurements"]):
            for name, was in row.items():
                is_worse = judge(name, was, now.get(place, {}).get(name), limits)
                compared += is_worse is not None
                if is_worse:
                    location = " ".join(part for part in (before["id"], place) if part)
                    findings.append(_change(code, location, name, was, now.get(place, {}).get(name, "missing")))
    return compared, findings


def _times(baseline: Report, current: Report, pairs: list[Any], limits: Limits) -> tuple[int, list[Finding]]:
    """Compare times as ratios to each process's own calibration run; none where a report has no such run."""
    units = [report["environment"].get("calibration_seconds") for report in (baseline, current)]
    if not all(units):
        return 0, []
    timed = [("the whole command", baseline["seconds"], current["seconds"])]
    timed += [(before["id"], before["seconds"], after["seconds"]) for before, after in pairs]
    timed = [(name, was / units[0], now / units[1]) for name, was, now in timed if was >= limits.min_seconds]
    return len(timed), [
        _change("time", name, "time over the calibration run", round(was, 1), round(now, 1))
        for name, was, now in timed
        if now > was * (1 + limits.time_growth)
    ]
