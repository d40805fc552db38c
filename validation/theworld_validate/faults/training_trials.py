"""Trainings of the tiny model with a fault each, and one without any.

In: faults of training. Out: a check each, judged by what the audit of training finds in a worker of its own.
"""

from collections.abc import Iterator, Sequence

from theworld_validate.audits.training import ASPECTS
from theworld_validate.faults.base import Fault
from theworld_validate.faults.verdicts import THREADS, broken_off, judge_findings
from theworld_validate.results import CheckResult, InputError, Status, combine
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Checked
from theworld_validate.workers.run import Audit, Run, check_in_worker, describe_failure

TRAINING = "training"  # the group of these faults
_OBSERVE = "theworld_validate.faults.training:observe"


def try_training(faults: Sequence[Fault], run: Run) -> Iterator[CheckResult]:
    """Have the tiny model trained with each fault in a worker of its own."""
    work = run.work([_training_job(fault) for fault in faults], at_once=2)
    checks: dict[str, list[CheckResult]] = {fault.name: [] for fault in faults}
    for job, message in work.messages():
        if isinstance(message, Checked):
            run.progress(job.name)
            checks[job.name].append(message.check)
    for fault, outcome in zip(faults, work.outcomes, strict=True):
        findings = tuple(f for check in checks[fault.name] for f in check.findings)
        if not outcome.is_whole:
            findings = (broken_off(InputError(describe_failure(outcome)), section=None),)
        yield judge_findings(fault, findings, seconds=outcome.seconds)


def _training_job(fault: Fault | None) -> Job:
    name = fault.name if fault is not None else "training"
    arguments = {"fault_name": fault.name if fault is not None else None}
    return Job(name=name, function=_OBSERVE, arguments=arguments, is_subject=True, threads=THREADS)


def right_training(run: Run) -> CheckResult:
    """Train without a fault: any finding would be false."""
    run.progress("training without a fault")
    checks = list(check_in_worker(run, Audit(job=_training_job(None))))
    return CheckResult(
        id="selftest.right_training",
        status=combine([check.status for check in checks]) if len(checks) == len(ASPECTS) else Status.FAILED,
        seconds=sum(check.seconds for check in checks),
        measurements={"aspects": len(checks), "false_findings": sum(len(check.findings) for check in checks)},
        findings=tuple(finding for check in checks for finding in check.findings),
    )
