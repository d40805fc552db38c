"""Parity: is the candidate the reference, bit for bit?

In: two subjects and the names of probes. Out: checks, the likeliest root cause's first. Each side is loaded and
observed in a worker of its own, both at once where there is room; nothing but documents comes back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.parity.accepting import accept_equivalent, settle
from theworld_validate.parity.allowances import Allowance, allow, less_allowed
from theworld_validate.parity.jobs import DIGEST_JOB, digest_jobs, observe_job, round_trip_job, side_of
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.measured_causes import find_causes
from theworld_validate.parity.observing import (
    BEFORE,
    CONTROL,
    STATE,
    TRUTH,
    RoundTrip,
)
from theworld_validate.parity.planning import plan_parity, refuse_files, unasked_parts
from theworld_validate.parity.round_trip import check_loads
from theworld_validate.parity.times import seconds_of
from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.subjects.checkpoints import stamp_of
from theworld_validate.workers.child import Job
from theworld_validate.workers.pool import Outcome
from theworld_validate.workers.run import Run, failed_worker

# Sections that loading alone decides: if they differ between two loads of the reference, loading is at fault.
_REPEATABLE = ("parameters", "buffers", "globals")
_TRUTH = "truth"  # of the job that runs the reference in a wider dtype


def check_parity(
    reference: Loader,
    candidate: Loader,
    *,
    run: Run,
    probe_names: Sequence[str] = (),
    deterministic: bool = True,
    control_in_own_process: bool = False,
    allowances: Sequence[Allowance] = (),
    accept_rounding: bool = False,
    truth: Loader | None = None,
    sketch: bool = False,
) -> Iterator[CheckResult]:
    """Compare two subjects on everything observable.

    Args:
        reference, candidate: what is loaded; both from the same checkpoint, dtype, device and attention.
        run: of the command; its folder gets both tensors of the first difference.
        probe_names: what both are asked, the reference twice, as the control; everything if none is named.
        deterministic: choose deterministic kernels on CUDA.
        control_in_own_process: run the control in a third process, not as the reference's second run.
        allowances: differences that are expected: shown, and no failure.
        accept_rounding: have the referee judge numbers that are not equal; see `compare.judgement`.
        truth: the reference in a wider dtype, which the referee judges by.
        sketch: sketch what is observed though nothing is judged by it.

    Yields:
        Where something differs, the check with the likeliest root cause first. Where the control itself differs, the
        checks that it touches are inconclusive.

    Raises:
        InputError: if the checkpoint or a target cannot be used.
    """
    stamp = stamp_of(reference.checkpoint)
    agreed = plan_parity(reference, run, probe_names)
    plan = run.plan = agreed.plan
    if (refused := refuse_files(agreed)) is not None:
        for name, loader in (("reference", reference), ("candidate", candidate)):
            run.add_subject(loader.record(name))
        yield refused
        return

    def job(name: str, loader: Loader, *, control: bool, round_trip: RoundTrip) -> Job:
        own = observe_job(
            name,
            loader,
            plan,
            control=control,
            round_trip=round_trip,
            deterministic=deterministic,
            sketch=sketch or accept_rounding,
        )
        return replace(own, threads=agreed.threads)

    jobs = [
        job("reference", reference, control=not control_in_own_process, round_trip="written"),
        job("candidate", candidate, control=False, round_trip="none"),
        replace(round_trip_job("candidate_round_trip", candidate), threads=agreed.threads),
    ]
    if control_in_own_process:
        jobs.append(job("control", reference, control=False, round_trip="none"))
    if truth is not None:
        arguments = {"loader": truth, "probe_names": plan.probes, "deterministic": deterministic}
        truth_job = Job(name=_TRUTH, function=TRUTH, arguments=arguments, is_subject=True, threads=agreed.threads)
        jobs.append(truth_job)
    jobs += digest_jobs(reference)
    names = [job.name for job in jobs]
    seen = dict(zip(names, run.do(jobs, at_once=agreed.at_once), strict=True))
    true_seen = seen.pop(_TRUTH, None)
    true = None if true_seen is None else side_of(true_seen)
    _record_subjects(run, reference, candidate, seen, seen.pop(DIGEST_JOB, None))
    if truth is not None:
        run.add_subject(truth.record("truth"), true_seen)
    saved = side_of(seen["candidate_round_trip"], BEFORE).fingerprint
    comparison = Comparison(
        plan=plan,
        reference=side_of(seen["reference"]),
        candidate=_joined(side_of(seen["candidate"]), side_of(seen["candidate_round_trip"])),
        control=side_of(seen["control"]) if control_in_own_process else side_of(seen["reference"], CONTROL),
        files=agreed.files,
        saved=saved,
        seconds={**agreed.seconds, **seconds_of(seen, control=CONTROL)},
    )
    loads = check_loads(*(less_allowed(load, comparison.expected, allowances) for load in (comparison.actual, saved)))
    comparison, allowed = allow(comparison, allowances)
    run.plan = comparison.plan
    accepted = accept_equivalent(comparison, true) if accept_rounding else None
    judged = judge(comparison) if accepted is None else accepted.checks
    checks = [*_written_to(reference.checkpoint, stamp), *loads, *allowed, *unasked_parts(agreed), *judged]
    if any(check.status is Status.FAILED and _loaded_section(check) in _REPEATABLE for check in checks):
        checks = _repeat_load(reference, comparison.expected, checks, run, threads=agreed.threads)
    if any(check.status is Status.FAILED and check.id == "parity.round_trip" for check in checks):
        checks = _ask_reference_too(reference, comparison, checks, run, threads=agreed.threads)
    checks = [*_endings(seen), *checks]
    save_to = run.scratch() if run.keeps_tensors else None
    checks = find_causes(reference, candidate, checks, comparison, run, threads=agreed.threads, save_to=save_to)
    yield from checks if accepted is None else settle(checks, accepted.judgement)


def _written_to(checkpoint: str, before: dict[str, tuple[int, int, int]]) -> Iterator[CheckResult]:
    """One more check where the checkpoint is no longer what it was: nobody can say who loaded what."""
    after = stamp_of(checkpoint)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        finding = Finding(
            code="files.written_to",
            location=changed[0],
            message=f"{changed[0]} of the checkpoint was written while it was compared"
            + (f" (first of {len(changed)} files)" if len(changed) > 1 else ""),
            cause="a loader, or another process, writes to the checkpoint's folder",
            remedy="compare a copy that nothing writes to; have the loader save elsewhere",
            section="files",
            field="written_to",
        )
        reason = "the checkpoint changed while it was compared"
        yield CheckResult(
            id="parity.checkpoint", status=Status.INCONCLUSIVE, reason=reason, seconds=0.0, findings=(finding,)
        )


def _joined(side: Side, round_trip: Side) -> Side:
    """One side, observed by two workers."""
    return Side(fingerprint=side.fingerprint.merge(round_trip.fingerprint), ended=side.ended or round_trip.ended)


def _endings(seen: dict[str, Outcome]) -> list[CheckResult]:
    """A check for each worker that did not deliver; the candidate's second one only where its first one did."""
    checks = []
    for name, outcome in seen.items():
        if outcome.is_whole or (name == "candidate_round_trip" and not seen["candidate"].is_whole):
            continue
        check = failed_worker(outcome, check_id=f"parity.{name}")
        checks.append(check if name.startswith("candidate") else _inconclusive(check))
    return checks


def _record_subjects(
    run: Run, reference: Loader, candidate: Loader, seen: dict[str, Outcome], digest: Outcome | None
) -> None:
    """Name both sides in the report, with the digest of the checkpoint that they share."""
    value = digest.values.get("digest") if digest is not None else None
    for name, loader in (("reference", reference), ("candidate", candidate)):
        record = replace(loader.record(name), checkpoint_digest=value if isinstance(value, str) else None)
        run.add_subject(record, seen[name])


def _ask_reference_too(
    reference: Loader, comparison: Comparison, checks: Sequence[CheckResult], run: Run, *, threads: int | None
) -> list[CheckResult]:
    """Save and load the reference: if it does not come back either, the candidate's round trip proves nothing."""
    (outcome,) = run.do([replace(round_trip_job("reference", reference), threads=threads)])
    whole = _joined(comparison.reference, side_of(outcome))
    again = judge(replace(comparison, reference=whole))
    judged = {check.id: check for check in again}
    return [judged["parity.round_trip"] if check.id == "parity.round_trip" else check for check in checks]


def _inconclusive(check: CheckResult) -> CheckResult:
    """A reference that fails says nothing of the candidate."""
    if check.status is not Status.FAILED:
        return check
    return replace(check, status=Status.INCONCLUSIVE, reason="the reference did not deliver what it was asked")


def _repeat_load(
    reference: Loader, expected: Fingerprint, checks: Sequence[CheckResult], run: Run, *, threads: int | None
) -> list[CheckResult]:
    """Load the reference again; a section in which it differs from itself proves nothing about the candidate."""
    job = Job(name="reference", function=STATE, arguments={"loader": reference}, is_subject=True, threads=threads)
    again = side_of(run.do([job])[0]).fingerprint
    repeated = []
    for check in checks:
        name = _loaded_section(check)
        if name in _REPEATABLE and diff_section(name, expected.sections.get(name, {}), again.sections.get(name, {})):
            reason = "two loads of the reference differ here"
            repeated.append(replace(check, status=Status.INCONCLUSIVE, reason=reason))
        else:
            repeated.append(check)
    return repeated


def _loaded_section(check: CheckResult) -> str:
    """The section that a check is of; of two loads that differ, the first in which they do."""
    is_of_loads = check.id == "parity.loads"
    return str(check.findings[0].section) if is_of_loads else check.id.removeprefix("parity.")
