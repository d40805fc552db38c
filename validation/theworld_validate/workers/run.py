"""One run of a command, as its checks see it: where progress goes, how long a worker may take, what was loaded.

In: jobs. Out: their outcomes, and the records that the report needs of the subjects behind them.
"""

import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from theworld_validate.results import (
    CheckResult,
    Environment,
    Finding,
    InputError,
    Measurements,
    Plan,
    Status,
    SubjectRecord,
)
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Checked, Expect, Message, Raised, Step, Where
from theworld_validate.workers.pool import Outcome, Work
from theworld_validate.workers.timeout import DEFAULT_TIMEOUT_SECONDS

Progress = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Run:
    """What a command hands to its checks.

    Args:
        progress: called with a line before each step.
        expect: called with the number of steps still to come.
        timeout_seconds: for each worker.
        keeps_tensors: whether the report has a folder, which both tensors of a first difference may be put into.
        subjects: the models that were loaded so far, for the report.
        plan: what was to be compared, for the report; None where nothing was.
        environment: of the workers, for the report; None until one said.
        tracebacks: of errors of the harness itself, for --debug.
    """

    progress: Progress = lambda step: None
    expect: Callable[[int], None] = lambda num_steps: None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    keeps_tensors: bool = False
    subjects: list[SubjectRecord] = field(default_factory=list)
    plan: Plan | None = None
    environment: Environment | None = None
    tracebacks: list[str] = field(default_factory=list)
    _scratch: "tempfile.TemporaryDirectory[str] | None" = None

    def scratch(self) -> Path:
        """A folder for files that the report shall have; it is gone with the run."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="theworld-report-", ignore_cleanup_errors=True)
        return Path(self._scratch.name)

    def close(self) -> None:
        """Remove the scratch folder."""
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def work(self, jobs: Sequence[Job], *, at_once: int = 1) -> "Work":
        """Jobs to be done under this run's timeout."""
        return Work(jobs, timeout_seconds=self.timeout_seconds, at_once=at_once)

    def do(self, jobs: Sequence[Job], *, at_once: int = 1) -> list[Outcome]:
        """Do jobs, and report their steps.

        Raises:
            InputError: with the first line that a worker has for the user.
        """
        work = self.work(jobs, at_once=at_once)
        with contextlib.closing(work.messages()) as messages:
            for job, message in messages:
                if isinstance(message, Raised) and message.kind == "input":  # nobody needs what the others are at
                    raise InputError(message.error)
                self.tell(message, who=job.name if len(jobs) > 1 else None)
        return self.settle(work.outcomes)

    def tell(self, message: Message, *, who: str | None = None) -> None:
        """Pass a worker's step on."""
        if isinstance(message, Step):
            self.progress(f"{who}: {message.text}" if who else message.text)
        elif isinstance(message, Expect):
            self.expect(message.num_steps)
        elif isinstance(message, Where):
            self.environment = message.environment

    def settle(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Keep what outcomes say of the harness's own errors.

        Raises:
            InputError: with the first line that a worker has for the user.
        """
        for outcome in outcomes:
            if outcome.raised is not None and outcome.raised.kind == "input":
                raise InputError(outcome.raised.error)
            if outcome.raised is not None and outcome.raised.traceback:
                self.tracebacks.append(outcome.raised.traceback)
        return outcomes

    def add_subject(self, record: SubjectRecord, outcome: Outcome | None = None, *, role: str | None = None) -> None:
        """Name a subject in the report, with what it printed."""
        if outcome is not None:
            record = replace(record, printed=outcome.printed, printed_bytes=outcome.printed_bytes)
        self.subjects.append(replace(record, role=role or record.role))


def ask(run: Run, job: Job) -> Measurements:
    """Do a job of the harness's own that answers with values.

    Raises:
        InputError: if it has a line for the user.
        RuntimeError: if it did not answer.
    """
    (outcome,) = run.do([job])
    if not outcome.is_whole or not outcome.values:
        raise RuntimeError(f"{job.name}: {describe_failure(outcome)}")
    return outcome.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A job that makes checks.

    Args:
        job: with a name that no other of the same run has.
        record: the subject that it loads, for the report; None where it loads none.
    """

    job: Job
    record: SubjectRecord | None = None


def check_in_worker(run: Run, audit: Audit) -> Iterator[CheckResult]:
    """Have a job make checks in a worker; see `check_in_workers`."""
    yield from check_in_workers(run, [audit])


def check_in_workers(run: Run, audits: Sequence[Audit], *, at_once: int = 1) -> Iterator[CheckResult]:
    """Have jobs make checks, each in a worker of its own; one more check says so where a job did not end well.

    Args:
        at_once: how many workers may be at work at the same time.

    Yields:
        The checks in the order of the jobs, whoever is done first.

    Raises:
        InputError: with the line that a job has for the user, once the jobs before it are done.
    """
    work = run.work([audit.job for audit in audits], at_once=at_once)
    waiting = deque(zip(audits, work.outcomes, strict=True))
    num_given = 0  # of the first that is waited for
    with contextlib.closing(work.messages()) as messages:
        for job, message in messages:
            run.tell(message, who=job.name if len(audits) > 1 else None)
            # An outcome has all that came, messages that were not told of yet too; so nothing is kept beside it.
            while True:
                audit, outcome = waiting[0]
                is_over = outcome.is_over
                made = _checks_of(outcome)
                yield from made[num_given:]
                num_given = len(made)
                if not is_over or len(waiting) == 1:
                    break
                yield from _concluded(run, audit, outcome)
                waiting.popleft()
                num_given = 0
    while waiting:
        audit, outcome = waiting.popleft()
        yield from _checks_of(outcome)[num_given:]
        yield from _concluded(run, audit, outcome)
        num_given = 0


def _checks_of(outcome: Outcome) -> list[CheckResult]:
    return [message.check for message in outcome.messages if isinstance(message, Checked)]


def _concluded(run: Run, audit: Audit, outcome: Outcome) -> Iterator[CheckResult]:
    """What is left to say of a job that is over, all of whose checks were given."""
    if audit.record is not None:
        run.add_subject(audit.record, outcome)
    run.settle([outcome])
    if not outcome.is_whole:
        yield failed_worker(outcome, check_id=f"{audit.job.name}.worker")
    elif not _checks_of(outcome):
        reason = "an error of the harness itself: the job ended well and made no check"
        yield CheckResult(id=f"{audit.job.name}.worker", status=Status.ERROR, reason=reason, seconds=outcome.seconds)


def describe_failure(outcome: Outcome) -> str:
    """How a job ended that did not end well, in one line."""
    if outcome.raised is not None:
        return outcome.raised.error
    return f"the process {outcome.ended}, at: {outcome.last_step}"


def failed_worker(outcome: Outcome, *, check_id: str) -> CheckResult:
    """The check of a worker that did not deliver: failed by its subject, or an error of the harness's own."""
    raised = outcome.raised
    if raised is not None and raised.kind == "harness":
        reason = f"an error of the harness itself: {raised.error}"
        return CheckResult(id=check_id, status=Status.ERROR, reason=reason, seconds=outcome.seconds)
    who = outcome.job.name
    if raised is not None:
        finding = Finding(
            code=f"{who}.raised",
            location=raised.place or outcome.last_step,
            message=f"the {who} raises {raised.error} (at: {outcome.last_step})",
            cause="its own code fails where it is loaded or run" + (f": {raised.code}" if raised.code else ""),
            remedy="mend it there; the report has what it printed",
        )
    else:
        finding = Finding(
            code=f"{who}.ended",
            location=outcome.last_step,
            message=f"the {who}'s process {outcome.ended}, at: {outcome.last_step}",
            cause="it exited, was killed or did not answer before it had delivered what it was asked",
            remedy="run it alone to see why; the report has what it printed, and --timeout gives it more time",
        )
    return CheckResult(
        id=check_id,
        status=Status.FAILED,
        seconds=outcome.seconds,
        findings=(finding,),
    )
