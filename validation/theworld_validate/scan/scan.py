"""A plain subclass of every class of transformers against its base: which lose weights, or change by being subclassed.

In: names of classes. Out: a check a class, and one with the whole table. Each class has a tiny checkpoint of its own,
and the parity check as it is, in float32; one whose comparison raises or hangs costs that class alone.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.compare.explain import rank_roots
from theworld_validate.parity.check import check_parity
from theworld_validate.results import CheckResult, Finding, InputError, Row, Status, combine
from theworld_validate.scan.classes import LIST, WRITE
from theworld_validate.scan.plain_subclasses import PREFIX
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, ask, describe_failure

_SUBCLASS = f"theworld_validate.scan.plain_subclasses:{PREFIX}"
_SECONDS = 120.0  # for each worker of a class
_SHOWN = 3  # roots of a class


def scan(run: Run, names: Sequence[str] = (), *, limit: int | None = None, seed: int = 0) -> Iterator[CheckResult]:
    """Compare a plain subclass of each class with its base.

    Args:
        names: of classes of transformers; all that are known by a task if none is named.
        limit: at most so many.
        seed: of weights and probes.

    Raises:
        InputError: for a name that is no class of the release.
    """
    values = ask(run, Job(name="classes", function=LIST))["names"]
    known = [str(name) for name in values] if isinstance(values, list) else []
    for name in names:
        if name not in known:
            raise InputError(f"--reference transformers:{name}: no such class{did_you_mean(name, known)}")
    chosen = (list(names) or known)[:limit]
    run.expect(len(chosen))
    rows: list[Row] = []
    checks: list[CheckResult] = []
    with tempfile.TemporaryDirectory(prefix="theworld-scan-") as scratch:
        for name in chosen:
            run.progress(name)
            check = _scan_class(name, Path(scratch, name), run, seed=seed)
            checks.append(check)
            first = check.findings[0] if check.findings else None
            rows.append(
                {
                    "class": name,
                    "verdict": check.status.value,
                    "first": first.code if first else None,
                    "why": first.message if first else check.reason,
                }
            )
            yield check
    yield _summary(checks, rows)


def _scan_class(name: str, folder: Path, run: Run, *, seed: int) -> CheckResult:
    started = time.perf_counter()

    def result(
        status: Status, reason: str | None = None, findings: Sequence[Finding] = (), compared: int = 0
    ) -> CheckResult:
        return CheckResult(
            id=f"scan.{name}",
            status=status,
            reason=reason,
            seconds=time.perf_counter() - started,
            measurements={"tensors_compared": compared},
            findings=tuple(findings),
        )

    own = Run(timeout_seconds=min(run.timeout_seconds, _SECONDS))
    (outcome,) = own.do([Job(name=name, function=WRITE, arguments={"name": name, "folder": str(folder), "seed": seed})])
    why_not = outcome.values.get("why_not") if outcome.is_whole else describe_failure(outcome)
    if why_not is not None:
        return result(Status.SKIPPED, str(why_not))
    sides = [
        Subject(target=target, checkpoint=str(folder), dtype="float32", seed=seed)
        for target in (f"transformers:{name}", _SUBCLASS + name)
    ]
    try:
        checks = list(check_parity(*sides, run=own))
    except InputError as error:
        return result(Status.SKIPPED, str(error).replace(str(folder), name))
    run.environment = own.environment
    verdict = combine([check.status for check in checks])
    compared = sum(n for check in checks if isinstance(n := check.measurements.get("tensors_compared"), int))
    if verdict is Status.FAILED:
        roots = rank_roots([f for check in checks if check.status is Status.FAILED for f in check.findings])
        return result(verdict, None, [root for root in roots if root.severity == "error"][:_SHOWN], compared)
    reasons = [f"{check.id}: {check.reason}" for check in checks if check.status is not Status.PASSED]
    return result(verdict, reasons[0] if reasons else None, compared=compared)


def _summary(checks: Sequence[CheckResult], rows: list[Row]) -> CheckResult:
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    judged = counts[Status.PASSED] + counts[Status.FAILED]
    return CheckResult(
        id="scan.classes",
        status=Status.PASSED if judged else Status.INCONCLUSIVE,
        reason=None if judged else "no class was compared",
        seconds=0.0,
        measurements={
            "classes": len(checks),
            "compared": judged,
            "equal": counts[Status.PASSED],
            "different": counts[Status.FAILED],
            "unproved": counts[Status.INCONCLUSIVE],
            "not_loaded": counts[Status.SKIPPED],
            "table": rows,
        },
    )
