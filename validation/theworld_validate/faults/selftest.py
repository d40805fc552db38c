"""The self-test: every known fault, injected alone into a fresh candidate, must be caught, placed and explained.

In: what is to be loaded, and the catalogue. Out: one check a fault, the rates, and one over ways of loading that are
right. Every fault has a worker of its own; the judge is used as it is, and is not told what was injected.
"""

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from theworld_validate.compare.causes import classify
from theworld_validate.compare.explain import contradictions, rank_roots
from theworld_validate.faults.base import Fault
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.faults.loader import FaultySubject
from theworld_validate.faults.right_ways import RIGHT_WAYS
from theworld_validate.parity.check import Agreed, find_causes, observe_job, plan_parity, refuse_files, side_of
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.parity.observing import Loader
from theworld_validate.results import CheckResult, Finding, InputError, Plan, Status, did_you_mean
from theworld_validate.subjects.default_targets import check_the_worlds
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET, Target
from theworld_validate.workers.child import Job
from theworld_validate.workers.pool import Outcome
from theworld_validate.workers.run import Run, describe_failure

REQUIRED = {"detected": 1.0, "location": 0.95, "cause": 0.95}
_GRID = (("float32", "sdpa"), ("float32", "eager"), ("bfloat16", "sdpa"), ("bfloat16", "eager"))
NUM_BASE_RUNS = len(RIGHT_WAYS) * len(_GRID)
_THREADS = 1  # two workers at once, each with a core of its own


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
        names: of faults; all of the catalogue if none is named.
        num_base_runs: right ways to try, over dtypes and attention implementations.

    Raises:
        InputError: if a name is not in the catalogue, or the checkpoint cannot be used.
    """
    for name in names:
        if name not in CATALOGUE:
            hint = did_you_mean(name, CATALOGUE, otherwise="; theworld-validate selftest --list shows them")
            raise InputError(f"--fault {name}: no such fault{hint}")
    check_the_worlds(target.checkpoint, "the catalogue of faults")
    faults = [CATALOGUE[name] for name in names] if names else list(CATALOGUE.values())
    candidate = Subject.of(target, CANDIDATE_TARGET)
    reference = replace(candidate, target=REFERENCE_TARGET)
    agreed = plan_parity(reference, run, ())
    run.plan = agreed.plan
    run.add_subject(reference.record("reference"))
    run.add_subject(candidate.record("candidate"))
    run.expect(len(faults) + num_base_runs)
    has_gpu = run.environment is not None and run.environment.gpu is not None
    checks = []
    for check in _try_faults(faults, reference, candidate, agreed, run, has_gpu=has_gpu):
        checks.append(check)
        yield check
    yield _rates(checks)
    if num_base_runs:
        yield _right_ways(reference, agreed, num_base_runs, run)


def _try_faults(
    faults: Sequence[Fault], reference: Subject, candidate: Subject, agreed: Agreed, run: Run, *, has_gpu: bool
) -> Iterator[CheckResult]:
    """Observe the reference once, each fault in a worker of its own, and judge them one by one."""
    plan = agreed.plan
    (seen,) = run.do([_job("reference", reference, plan)])
    if not seen.is_whole:
        raise InputError(f"{REFERENCE_TARGET}: {describe_failure(seen)}")
    expected = side_of(seen)
    with tempfile.TemporaryDirectory(prefix="theworld-selftest-") as scratch:
        trials = []
        for fault in faults:
            if fault.needs_cuda and not has_gpu:
                reason = "this fault cannot exist without a CUDA device"
                yield CheckResult(id=f"selftest.{fault.name}", status=Status.SKIPPED, reason=reason, seconds=0.0)
            else:
                trials.append(_make_trial(fault, reference, candidate, Path(scratch)))
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
    return replace(observe_job(name, loader, plan, control=False), threads=_THREADS)


def _judge_trial(trial: _Trial, outcome: Outcome, expected: Side, agreed: Agreed, run: Run) -> CheckResult:
    """Judge one fault; the check passes if it is detected, its first place is right and its cause is named."""
    started = time.perf_counter()
    fault = trial.fault
    findings = _findings_of(trial, outcome, expected, agreed, run)
    roots = rank_roots(findings)
    first = roots[0] if roots else None
    cause = classify(first) if first is not None else None
    verdicts = {
        "detected": any(finding.section == fault.section for finding in findings),
        "location_right": first is not None and re.search(fault.location, first.location) is not None,
        "cause_right": cause in fault.causes,
    }
    missed = [what for what, right in verdicts.items() if not right]
    causes = " or ".join(fault.causes)
    failures = [
        Finding(
            code=f"selftest.{what}",
            location=fault.name,
            message=f"{fault.name}: not {what.replace('_', ' ')}",
            expected=f"{fault.section}: {causes} at {fault.location or 'any place'}",
            actual=f"{first.code}: {cause} at {first.location}" if first is not None else "no finding",
            cause="the checks do not see this fault, or the ranking of causes puts another finding first",
            remedy="look at what the section observes, and at theworld_validate/compare",
        )
        for what in missed
    ]
    failures += [
        Finding(
            code="selftest.contradiction",
            location=fault.name,
            message=f"{fault.name}: {sentences}",
            cause="two findings of one report contradict each other",
            remedy="look at theworld_validate/compare/explain.py",
        )
        for sentences in contradictions(findings)
    ]
    return CheckResult(
        id=f"selftest.{fault.name}",
        status=Status.FAILED if failures else Status.PASSED,
        seconds=outcome.seconds + time.perf_counter() - started,
        measurements={
            **verdicts,
            "group": fault.group,
            "seen": fault.seen,
            "likely_cause": str(cause) if cause else None,
            "likely_code": first.code if first is not None else None,
            "likely_location": first.location if first is not None else None,
            "roots": len(roots),
            "findings": len(findings),
        },
        findings=tuple(failures),
    )


def _findings_of(trial: _Trial, outcome: Outcome, expected: Side, agreed: Agreed, run: Run) -> tuple[Finding, ...]:
    """What the judge finds of one fault, explained."""
    if trial.fault.folder is not None:
        try:
            agreed = plan_parity(trial.reference, run, ())
        except InputError as error:  # a checkpoint that is refused before anything is loaded
            return (_refused(error, trial),)
        if (refused := refuse_files(agreed)) is not None:
            return refused.findings
        expected = side_of(run.do([_job("reference", trial.reference, agreed.plan)])[0])
    if not outcome.is_whole:
        return (_refused(InputError(describe_failure(outcome)), trial),)
    comparison = Comparison(plan=agreed.plan, reference=expected, candidate=side_of(outcome), files=agreed.files)
    checks = find_causes(trial.reference, trial.candidate, list(judge(comparison)), comparison, run, threads=_THREADS)
    return tuple(f for check in checks if check.status is Status.FAILED for f in check.findings)


def _refused(error: InputError, trial: _Trial) -> Finding:
    """A fault that nobody gets past: it is told of in one line, and nothing is loaded."""
    return Finding(
        code="files.refused",
        location=str(error),
        message=str(error),
        section=trial.fault.section if trial.fault.folder is not None else None,
        field="refused",
    )


def _rates(checks: Sequence[CheckResult]) -> CheckResult:
    """The rates over all faults that ran; a single fault may be misplaced, but not too many."""
    ran = [check for check in checks if check.status is not Status.SKIPPED]
    if not ran:
        reason = "no fault could be injected here"
        return CheckResult(id="selftest.rates", status=Status.INCONCLUSIVE, reason=reason, seconds=0.0)
    rates = {
        what: sum(bool(check.measurements[key]) for check in ran) / len(ran)
        for what, key in (("detected", "detected"), ("location", "location_right"), ("cause", "cause_right"))
    }
    findings = tuple(
        Finding(
            code=f"selftest.rate_{what}",
            location="catalogue",
            message=f"{what} right for {rates[what]:.1%} of {len(ran)} faults, required {required:.0%}",
            expected=required,
            actual=rates[what],
        )
        for what, required in REQUIRED.items()
        if rates[what] < required
    )
    return CheckResult(
        id="selftest.rates",
        status=Status.FAILED if findings else Status.PASSED,
        seconds=0.0,
        measurements={
            "faults": len(ran),
            "skipped": len(checks) - len(ran),
            **{f"{what}_rate": rate for what, rate in rates.items()},
        },
        findings=findings,
    )


def _right_ways(base: Subject, agreed: Agreed, num_runs: int, run: Run) -> CheckResult:
    """Load in ways that are right, over dtypes and attention: any finding would be false."""
    started = time.perf_counter()
    findings: list[Finding] = []
    rows: list[dict[str, str | int | None]] = []
    tried = [(dtype, attn, way) for dtype, attn in _GRID for way in RIGHT_WAYS][:num_runs]
    for dtype, attn in _GRID:
        ways = [way for d, a, way in tried if (d, a) == (dtype, attn)]
        if not ways:
            continue
        reference = replace(base, dtype=dtype, attn=attn)
        jobs = [_job("reference", reference, agreed.plan)]
        jobs += [_job(way, replace(reference, target=RIGHT_WAYS[way]), agreed.plan) for way in ways]
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
