"""The self-test: every known fault, injected alone into a fresh candidate, must be caught, placed and explained.

In: what is to be loaded, and the catalogue. Out: one check a fault, the rates, and one over ways of loading that are
right. Every fault has a worker of its own; the judge is used as it is, and is not told what was injected. Faults of
training are not about what is loaded: the audit of training has the tiny model trained with them. Of a checkpoint of
another family than Gemma 3, the faults are those whose needs its reference meets.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.faults.base import Fault
from theworld_validate.faults.catalogue import CATALOGUE, FAMILY_FAULTS
from theworld_validate.faults.loader import FaultySubject
from theworld_validate.faults.needs import met_by
from theworld_validate.faults.right_ways import RIGHT_WAYS, ways_of_any_family
from theworld_validate.faults.training_trials import TRAINING, right_training, try_training
from theworld_validate.faults.verdicts import THREADS, broken_off, judge_findings, rates_of
from theworld_validate.parity.jobs import observe_job, side_of
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.measured_causes import find_causes
from theworld_validate.parity.planning import Agreed, plan_parity, refuse_files
from theworld_validate.results import CheckResult, Finding, InputError, Plan, Status
from theworld_validate.subjects.default_targets import default_targets
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, Target
from theworld_validate.workers.child import Job
from theworld_validate.workers.pool import Outcome
from theworld_validate.workers.run import Run, describe_failure

_GRID = (("float32", "sdpa"), ("float32", "eager"), ("bfloat16", "sdpa"), ("bfloat16", "eager"))
_FAMILY_GRID = (("float32", None), ("bfloat16", None))  # attention as the family has it
NUM_BASE_RUNS = len(RIGHT_WAYS) * len(_GRID)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One fault, on which folder both sides load, and the job that observes it."""

    fault: Fault
    reference: Loader
    candidate: Loader


def run_selftest(
    target: Target, *, run: Run, names: Sequence[str] = (), num_base_runs: int = NUM_BASE_RUNS
) -> Iterator[CheckResult]:
    """Inject every fault, and load in every way that is right.

    Args:
        names: of faults; all of the catalogue if none is named, and for another family than Gemma 3 those that are
            made for any.
        num_base_runs: right ways to try, over dtypes and attention implementations.

    Raises:
        InputError: if a name is not in the catalogue, or the checkpoint cannot be used.
    """
    base, own = default_targets(target.checkpoint)
    known = CATALOGUE if own is not None else CATALOGUE | FAMILY_FAULTS
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, otherwise="; theworld-validate selftest --list shows them")
            raise InputError(f"--fault {name}: no such fault{hint}")
    faults = [known[name] for name in names] if names else list(known.values())
    candidate = Subject.of(target, own or base)
    reference = replace(candidate, target=base)
    agreed = plan_parity(reference, run, ())
    run.plan = agreed.plan
    run.add_subject(reference.record("reference"))
    run.add_subject(candidate.record("candidate"))
    run.expect(len(faults) + num_base_runs + bool(num_base_runs))
    has_gpu = run.environment is not None and run.environment.gpu is not None
    checks = []
    of_training = [fault for fault in faults if fault.group == TRAINING and own is not None]
    of_models = [fault for fault in faults if fault not in of_training]
    if of_models:
        for check in _try_faults(of_models, reference, candidate, agreed, run, has_gpu=has_gpu):
            checks.append(check)
            yield check
    for check in try_training(of_training, run):
        checks.append(check)
        yield check
    yield rates_of(checks)
    if num_base_runs:
        yield _right_ways(reference, agreed, num_base_runs, run)
        if own is not None:
            yield right_training(run)


def _try_faults(
    faults: Sequence[Fault], reference: Subject, candidate: Subject, agreed: Agreed, run: Run, *, has_gpu: bool
) -> Iterator[CheckResult]:
    """Observe the reference once, each fault in a worker of its own, and judge them one by one."""
    plan = agreed.plan
    (seen,) = run.do([_job("reference", reference, plan)])
    if not seen.is_whole:
        raise InputError(f"{reference.target}: {describe_failure(seen)}")
    expected = side_of(seen)
    sections = expected.fingerprint.sections
    met = None if candidate.target == CANDIDATE_TARGET else met_by(expected.fingerprint, plan.probes)
    with tempfile.TemporaryDirectory(prefix="theworld-selftest-") as scratch:
        trials = []
        for fault in faults:
            if fault.needs_cuda and not has_gpu:
                reason = "this fault cannot exist without a CUDA device"
                yield CheckResult(id=f"selftest.{fault.name}", status=Status.SKIPPED, reason=reason, seconds=0.0)
            elif met is not None and (unmet := [need for need in fault.needs if need not in met]):
                reason = f"not applicable: {unmet[0]}"
                yield CheckResult(id=f"selftest.{fault.name}", status=Status.SKIPPED, reason=reason, seconds=0.0)
            else:
                trials.append(_make_trial(fault.placed_in(sections), reference, candidate, Path(scratch)))
        jobs = [_job(trial.fault.name, trial.candidate, plan) for trial in trials]
        work = run.work(jobs, at_once=2)
        done: set[int] = set()
        for job, _message in work.messages():
            run.progress(job.name)
            for i, outcome in enumerate(work.outcomes):
                if i not in done and outcome.is_over:
                    done.add(i)
                    yield _judge_trial(trials[i], outcome, expected, agreed, run)
        for i, outcome in enumerate(work.outcomes):
            if i not in done:
                yield _judge_trial(trials[i], outcome, expected, agreed, run)


def _make_trial(fault: Fault, reference: Subject, candidate: Subject, scratch: Path) -> _Trial:
    """Prepare one fault: those of files damage a copy of the checkpoint, which both sides then load."""
    if fault.folder is None:
        return _Trial(fault=fault, reference=reference, candidate=FaultySubject(fault=fault.name, subject=candidate))
    damaged = str(fault.damage_copy(candidate.checkpoint, scratch / fault.name))
    return _Trial(
        fault=fault,
        reference=replace(reference, checkpoint=damaged),
        candidate=FaultySubject(fault=fault.name, subject=replace(candidate, checkpoint=damaged)),
    )


def _job(name: str, loader: Loader, plan: Plan) -> Job:
    return replace(observe_job(name, loader, plan, control=False), threads=THREADS)


def _judge_trial(trial: _Trial, outcome: Outcome, expected: Side, agreed: Agreed, run: Run) -> CheckResult:
    """Judge one fault of a model, by what parity finds."""
    started = time.perf_counter()
    findings = _findings_of(trial, outcome, expected, agreed, run)
    return judge_findings(trial.fault, findings, seconds=outcome.seconds + time.perf_counter() - started)


def _findings_of(trial: _Trial, outcome: Outcome, expected: Side, agreed: Agreed, run: Run) -> tuple[Finding, ...]:
    """What the judge finds of one fault, explained."""
    if trial.fault.folder is not None:
        try:
            agreed = plan_parity(trial.reference, run, ())
        except InputError as error:  # a checkpoint that is refused before anything is loaded
            return (broken_off(error, section=trial.fault.section),)
        if (refused := refuse_files(agreed)) is not None:
            return refused.findings
        expected = side_of(run.do([_job("reference", trial.reference, agreed.plan)])[0])
    if not outcome.is_whole:
        section = trial.fault.section if trial.fault.folder is not None else None
        return (broken_off(InputError(describe_failure(outcome)), section=section),)
    comparison = Comparison(plan=agreed.plan, reference=expected, candidate=side_of(outcome), files=agreed.files)
    checks = find_causes(trial.reference, trial.candidate, list(judge(comparison)), comparison, run, threads=THREADS)
    return tuple(f for check in checks if check.status is Status.FAILED for f in check.findings)


def _right_ways(base: Subject, agreed: Agreed, num_runs: int, run: Run) -> CheckResult:
    """Load in ways that are right, over dtypes and attention: any finding would be false."""
    started = time.perf_counter()
    findings: list[Finding] = []
    rows: list[dict[str, str | int | None]] = []
    is_the_worlds = default_targets(base.checkpoint)[1] is not None
    targets, grid = (RIGHT_WAYS, _GRID) if is_the_worlds else (ways_of_any_family(base.target), _FAMILY_GRID)
    tried = [(dtype, attn, way) for dtype, attn in grid for way in targets][:num_runs]
    for dtype, attn in grid:
        ways = [way for d, a, way in tried if (d, a) == (dtype, attn)]
        if not ways:
            continue
        reference = replace(base, dtype=dtype, attn=attn)
        jobs = [_job("reference", reference, agreed.plan)]
        jobs += [_job(way, replace(reference, target=targets[way]), agreed.plan) for way in ways]
        seen, *outcomes = run.do(jobs, at_once=2)
        for way, outcome in zip(ways, outcomes, strict=True):
            side = side_of(outcome)
            comparison = Comparison(plan=agreed.plan, reference=side_of(seen), candidate=side, files=agreed.files)
            checks = list(judge(comparison))
            found = [f for check in checks for f in check.findings]
            not_passed = [check.id for check in checks if check.status is not Status.PASSED]
            if not_passed and not found:
                found = [
                    Finding(code="selftest.not_passed", location=way, message=f"{way}: {not_passed[0]} is no pass")
                ]
            rows.append({"way": way, "dtype": dtype, "attention": attn, "false_findings": len(found)})
            findings += [replace(f, message=f"{way}, {dtype}, {attn}: {f.message}") for f in found]
    return CheckResult(
        id="selftest.right_ways",
        status=Status.FAILED if findings else Status.PASSED if rows else Status.INCONCLUSIVE,
        seconds=time.perf_counter() - started,
        measurements={"runs": len(rows), "false_findings": len(findings), "ways": [{**row} for row in rows]},
        findings=tuple(findings),
    )
