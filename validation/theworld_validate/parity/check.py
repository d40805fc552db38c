"""Parity: is the candidate the reference, bit for bit?

In: two subjects and the names of probes. Out: checks, the likeliest root cause's first. Each side is loaded and
observed in a worker of its own, both at once where there is room; nothing but documents comes back.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.explain import Evidence
from theworld_validate.documents.observations import EMPTY, Fingerprint, Section, probe_of
from theworld_validate.parity.accepting import accept_equivalent, settle
from theworld_validate.parity.allowances import Allowance, allow
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.judge import Comparison, Side, check_files, judge
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.looking import LOOK, MEASURE, Question
from theworld_validate.parity.observing import (
    BEFORE,
    CONTROL,
    DIGEST,
    OBSERVE,
    PLAN,
    ROUND_TRIP,
    STATE,
    TRUTH,
    RoundTrip,
)
from theworld_validate.parity.round_trip import check_loads
from theworld_validate.results import CheckResult, Finding, Measurement, Plan, Status
from theworld_validate.subjects.checkpoints import stamp_of
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Part
from theworld_validate.workers.pool import Outcome
from theworld_validate.workers.run import Run, describe_failure, failed_worker

# Sections that loading alone decides: if they differ between two loads of the reference, loading is at fault.
_REPEATABLE = ("parameters", "buffers", "globals")
_DIGEST = "digest"  # the name of the job that digests the checkpoint
_TRUTH = "truth"  # of the job that runs the reference in a wider dtype
_MAX_WEIGHTS = 8  # that the second look measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What is known before anything is loaded.

    Args:
        plan: what must come back.
        files: the checkpoint's section "files".
        at_once: how many workers may be at work at the same time.
        threads: what each then takes; None leaves it to torch.
        unasked: what of the model no probe reaches, and why.
    """

    plan: Plan
    files: Section
    at_once: int
    threads: int | None
    unasked: tuple[str, ...] = ()


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
    digest_jobs = _digest_jobs(reference)
    names = [job.name for job in (*jobs, *digest_jobs)]
    seen = dict(zip(names, run.do([*jobs, *digest_jobs], at_once=agreed.at_once), strict=True))
    true_seen = seen.pop(_TRUTH, None)
    true = None if true_seen is None else side_of(true_seen)
    _record_subjects(run, reference, candidate, seen, seen.pop(_DIGEST, None))
    if truth is not None:
        run.add_subject(truth.record("truth"), true_seen)
    comparison = Comparison(
        plan=plan,
        reference=side_of(seen["reference"]),
        candidate=_joined(side_of(seen["candidate"]), side_of(seen["candidate_round_trip"])),
        control=side_of(seen["control"]) if control_in_own_process else side_of(seen["reference"], CONTROL),
        files=agreed.files,
        saved=side_of(seen["candidate_round_trip"], BEFORE).fingerprint,
        seconds=sum(outcome.seconds for outcome in seen.values()),
    )
    loads = check_loads(comparison.actual, comparison.saved or EMPTY)
    comparison, allowed = allow(comparison, allowances)
    run.plan = comparison.plan
    accepted = accept_equivalent(comparison, true) if accept_rounding else None
    judged = judge(comparison) if accepted is None else accepted.checks
    checks = [*_written_to(reference.checkpoint, stamp), *loads, *allowed, *_unasked(agreed), *judged]
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


def _unasked(agreed: Agreed) -> Iterator[CheckResult]:
    """One more check where a part of the model is asked nothing: equal state proves nothing of what it does."""
    if agreed.unasked:
        yield CheckResult(
            id="parity.unasked",
            status=Status.INCONCLUSIVE,
            reason=f"no probe reaches {'; '.join(agreed.unasked)}: give your own with --probes MODULE:FUNCTION",
            seconds=0.0,
        )


def refuse_files(agreed: Agreed) -> CheckResult | None:
    """The check of a checkpoint that nothing may be loaded from: both sides would draw the same random weight."""
    check = check_files(agreed.files)
    if check.status is not Status.FAILED:
        return None
    evidence = Evidence(compared=frozenset({"files"}), weights={}, inputs_equal={}, candidate_repeats=None)
    (explained,) = explain_checks([check], evidence)
    return replace(explained, reason="nothing was loaded: the checkpoint's files and the model do not fit")


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


def observe_job(
    name: str,
    loader: Loader,
    plan: Plan,
    *,
    control: bool,
    round_trip: RoundTrip = "whole",
    deterministic: bool = True,
    sketch: bool = False,
) -> Job:
    """The job of loading and observing one side."""
    arguments = {
        "loader": loader,
        "probe_names": plan.probes,
        "control": control,
        "round_trip": round_trip,
        "deterministic": deterministic,
        "sketch": sketch,
    }
    return Job(name=name, function=OBSERVE, arguments=arguments, is_subject=True)


def round_trip_job(name: str, loader: Loader) -> Job:
    """The job of saving one side and loading it again."""
    return Job(name=name, function=ROUND_TRIP, arguments={"loader": loader}, is_subject=True)


def _digest_jobs(loader: Loader) -> list[Job]:
    """The job of digesting a local checkpoint; none for a hub id."""
    if not Path(loader.checkpoint).is_dir():
        return []
    return [Job(name=_DIGEST, function=DIGEST, arguments={"checkpoint": loader.checkpoint})]


def plan_parity(loader: Loader, run: Run, probe_names: Sequence[str]) -> Agreed:
    """Check the checkpoint, and say what must come back.

    Raises:
        InputError: if the checkpoint cannot be used, or no probe has such a name.
    """
    arguments = {"loader": loader, "probe_names": tuple(probe_names)}
    (outcome,) = run.do([Job(name="plan", function=PLAN, arguments=arguments)])
    values = outcome.values
    if not outcome.is_whole or not values:
        raise RuntimeError(f"the plan was not made: {describe_failure(outcome)}")
    threads, at_once = values["threads"], values["at_once"]
    sections, probes = (tuple(map(str, _list_of(values[name]))) for name in ("sections", "probes"))
    return Agreed(
        plan=Plan(sections=sections, probes=probes),
        files=side_of(outcome).fingerprint.sections.get("files", {}),
        at_once=at_once if isinstance(at_once, int) else 1,
        threads=threads if isinstance(threads, int) else None,
        unasked=tuple(map(str, _list_of(values["unasked"]))),
    )


def _list_of(value: Measurement) -> list[Any]:
    assert isinstance(value, list)
    return value


def side_of(outcome: Outcome, run_name: str = "first") -> Side:
    """Put together the parts that a worker delivered in one of its runs."""
    merged = EMPTY
    for message in outcome.messages:
        if isinstance(message, Part) and message.run == run_name:
            merged = merged.merge(message.fingerprint)
    return Side(fingerprint=merged, ended=None if outcome.is_whole else describe_failure(outcome))


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


def find_causes(
    reference: Loader,
    candidate: Loader,
    checks: list[CheckResult],
    comparison: Comparison,
    run: Run,
    *,
    threads: int | None = None,
    save_to: Path | None = None,
) -> list[CheckResult]:
    """Take the second look where something failed, and say of each finding why, or what explains it."""
    findings = [f for check in checks if check.status is Status.FAILED for f in check.findings]
    if not findings:
        return checks
    measured: dict[str, Any] = {}
    if comparison.candidate.ended is None:
        run.progress("looking for the cause")
        measured = look_at_both(reference, candidate, findings, run, threads=threads, save_to=save_to)
    evidence = gather_evidence(comparison, measured)
    explained = explain_checks(checks, evidence)
    place = measured.get("divergence_place")
    if place is None:
        return explained
    own = {name: value for name, value in measured.items() if name.startswith("divergence_")}
    return [
        replace(check, measurements={**check.measurements, **own})
        if check.measurements.get("probe") == probe_of(place)
        else check
        for check in explained
    ]


def look_at_both(
    reference: Loader,
    candidate: Loader,
    findings: Sequence[Finding],
    run: Run,
    *,
    threads: int | None,
    save_to: Path | None,
) -> dict[str, Any]:
    """Load both sides again, and measure the weights and the first place of a trace that are in question.

    Returns:
        The values of `looking.measure`, and "candidate_repeats"; empty where nothing is in question or a look failed.
    """
    weights = tuple(f.location for f in findings if f.code == "parameters.digest")[:_MAX_WEIGHTS]
    place = next((f.location for f in findings if f.section == "trace" and f.field != "raised"), None)
    if not weights and place is None:
        return {}
    question = Question(weights=weights, probe=None if place is None else probe_of(place), place=place)
    with tempfile.TemporaryDirectory(prefix="theworld-look-") as scratch:
        names = ("reference", "candidate")
        files = {name: str(Path(scratch, f"{name}.safetensors")) for name in names}
        jobs = [
            Job(
                name=name,
                function=LOOK,
                arguments={
                    "loader": loader,
                    "question": question,
                    "file": files[name],
                    "repeat": name == "candidate",
                },
                is_subject=True,
                threads=threads,
            )
            for name, loader in zip(names, (reference, candidate), strict=True)
        ]
        looks = run.do(jobs)
        if not all(look.is_whole for look in looks):
            return {}
        arguments = {**files, "place": place, "save_to": None if save_to is None else str(save_to)}
        (measured,) = run.do([Job(name="measuring", function=MEASURE, arguments=arguments)])
    if not measured.is_whole:
        return {}
    return {**measured.values, "candidate_repeats": looks[1].values.get("repeats")}
