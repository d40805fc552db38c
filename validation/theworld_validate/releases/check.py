"""Releases compared: environments, then each release observed, then neighbours judged.

In: a library, its releases, a subject. Out: a check for each release against the one before it, one for a candidate
in each, one for the files that releases save for each other, and the whole table.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from theworld.checkpoints.error_text import one_line
from theworld_validate.compare.judgement import BOUNDS
from theworld_validate.documents.writing import check_place
from theworld_validate.releases.candidates import judge_candidate
from theworld_validate.releases.environments import Overlay, check_names, find_overlay, install_overlay
from theworld_validate.releases.exchanged import check_exchange
from theworld_validate.releases.judged import GRADIENTS, Judged, Verdict
from theworld_validate.releases.lock import passing_releases, write_lock
from theworld_validate.releases.observing import BASE, CANDIDATE, Asked, make_questions, observe_releases
from theworld_validate.releases.processes import Server
from theworld_validate.releases.seen import Seen, Truth
from theworld_validate.releases.truths import make_truths
from theworld_validate.releases.verdicts import judge_first, judge_neighbours
from theworld_validate.rendering.grid_rows import release_check_id
from theworld_validate.rendering.plain_text import counted
from theworld_validate.results import CheckResult, Plan, Row, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.run import Run

_STATUS = {
    Verdict.FIRST: Status.PASSED,
    Verdict.EQUAL: Status.PASSED,
    Verdict.EQUIVALENT: Status.PASSED,
    Verdict.UNDECIDABLE: Status.INCONCLUSIVE,
}  # all others fail
_SECTIONS = ("config", "modules", "parameters", "buffers", "trace", "outputs", "generation", "gradients")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is compared.

    Args:
        library: whose releases.
        versions: in the order in which they are compared: each with the one before it.
        environments: the folder of overlays.
        candidate: "module:name" of a loader that is compared with the checkpoint's own class in each release.
        lock: where to write what passed; None for nowhere.
    """

    library: str
    versions: tuple[str, ...]
    environments: Path
    candidate: str | None = None
    lock: Path | None = None


def check_releases(subject: Subject, options: Options, run: Run) -> Iterator[CheckResult]:
    """Compare releases of a library on one checkpoint.

    Raises:
        InputError: if a release cannot be installed, or the checkpoint cannot be used.
    """
    check_names(options.library, options.versions)
    if options.lock is not None:
        check_place(options.lock, option="--lock")
    overlays = {named: _environment(named, options, run) for named in options.versions}
    with tempfile.TemporaryDirectory(prefix="theworld-releases-") as scratch, Server(Path(scratch)) as server:
        folder = Path(scratch)
        asked = make_questions(subject, folder, run)
        base = observe_releases(subject, asked, overlays, folder, run, server, name=BASE, target=asked.target)
        mine: dict[str, Seen] = {}
        if (own := options.candidate) is not None:
            mine = observe_releases(subject, asked, overlays, folder, run, server, name=CANDIDATE, target=own)
        run.plan = Plan(sections=_SECTIONS, probes=asked.probes)
        seen = list(base.values())
        columns = (*asked.probes, GRADIENTS) if _has_gradients(seen) else asked.probes
        truths = make_truths(seen, columns, subject, asked, overlays, folder, run, server)
        yield from _judge(seen, mine, asked, columns, truths, overlays, options, subject)


def _has_gradients(seen: Sequence[Seen]) -> bool:
    """Whether any release gives gradients, or raises where it is to give them."""
    files = [one.file.fingerprint for one in seen if one.file is not None]
    return any(file.sections.get(GRADIENTS) or file.failures_of(GRADIENTS) for file in files)


def _environment(named: str, options: Options, run: Run) -> Overlay:
    found = find_overlay(options.library, named, options.environments)
    if found is None:
        run.progress(f"installing {options.library} {named}")
        found = install_overlay(options.library, named, options.environments)
    return found


def _judge(
    seen: list[Seen],
    mine: dict[str, Seen],
    asked: Asked,
    columns: tuple[str, ...],
    truths: dict[str, Truth],
    overlays: dict[str, Overlay],
    options: Options,
    subject: Subject,
) -> Iterator[CheckResult]:
    started = time.perf_counter()
    judged = [judge_first(seen[0], columns)]
    for before, after in pairwise(seen):
        judged.append(judge_neighbours(before, after, columns, truths.get(before.version)))
    each = (time.perf_counter() - started) / len(judged)
    seen = [_with_truth(one, truths.get(one.version)) for one in seen]
    for release, own in zip(judged, seen, strict=True):
        yield release_check(release, own, seconds=own.seconds + each)
    refused = []
    for version, own in mine.items():
        base = next(one for one in seen if one.version == version)
        check = judge_candidate(base, own, asked.probes)
        refused += [version] * (check.status is not Status.PASSED)
        yield check
    yield from check_exchange(seen)
    passing = passing_releases(judged, refused)
    yield _table(judged, seen, overlays, passing)
    if options.lock is not None:
        yield _lock(passing, overlays, options.lock, subject)


def _with_truth(seen: Seen, truth: Truth | None) -> Seen:
    """The same, with what its truth took."""
    if truth is None:
        return seen
    processor_seconds = (seen.processor_seconds or 0.0) + truth.processor_seconds
    return replace(seen, seconds=seen.seconds + truth.seconds, processor_seconds=processor_seconds)


def release_check(judged: Judged, seen: Seen, *, seconds: float) -> CheckResult:
    """The check of one release; what is undecidable is inconclusive, and no pass."""
    reasons = {
        Verdict.FIRST: "the first release, compared with none before it: it loads the checkpoint whole",
        Verdict.EQUAL: f"equal to {judged.before}",
        Verdict.EQUIVALENT: f"equivalent to {judged.before}" + _worst(judged),
        Verdict.UNDECIDABLE: f"undecidable after {judged.before}" + (f": {judged.why}" if judged.why else ""),
        Verdict.CHANGED: f"changed since {judged.before}" + (f", first at {judged.place}" if judged.place else ""),
        Verdict.UNSAFE: "unsafe" if judged.before is None else f"unsafe after {judged.before}",
        Verdict.FAILED: "it failed",
    }
    return CheckResult(
        id=release_check_id(judged.version),
        status=_STATUS.get(judged.verdict, Status.FAILED),
        reason=reasons[judged.verdict],
        seconds=seconds,
        measurements={
            "tensors_compared": judged.compared,
            "answers_not_compared": len(judged.unanswered),
            "worst_ratio": None if judged.worst is None else round(judged.worst.ratio, 3),
            "worst_place": None if judged.worst is None else judged.worst.location,
            "bound": None if judged.worst is None else BOUNDS.of(judged.worst.section, judged.worst.location),
            "parameters_renamed": judged.renamed,
            "parameters": seen.loading.num_keys if seen.loading is not None else None,
        },
        findings=judged.findings,
    )


def _worst(judged: Judged) -> str:
    if judged.worst is None:
        return ""
    bound = BOUNDS.of(judged.worst.section, judged.worst.location)
    return f": the worst place is {judged.worst.ratio:.2f} times its rounding, bound {bound:g}: {judged.worst.location}"


def _table(
    judged: Sequence[Judged], seen: Sequence[Seen], overlays: dict[str, Overlay], passing: Sequence[str]
) -> CheckResult:
    rows: list[Row] = []
    for release, own in zip(judged, seen, strict=True):
        row: Row = {"release": release.version, "verdict": release.verdict.value, "first_place": release.place}
        row |= {cell.probe: cell.verdict.value for cell in release.columns}
        packages = overlays[release.version].packages
        with_it = " ".join(f"{name} {number}" for name, number in packages.items() if number != release.version)
        took: Row = {"observed_seconds": own.seconds, "processor_seconds": own.processor_seconds}
        rows.append({**row, **took, "with": with_it or None})
    worst = [release for release in judged if not release.verdict.passes]
    return CheckResult(
        id="releases.table",
        status=Status.PASSED if passing else Status.FAILED,
        reason=_gist(judged),
        seconds=0.0,
        measurements={"releases": len(judged), "passing": len(judged) - len(worst), "grid": rows},
    )


def _gist(judged: Sequence[Judged]) -> str:
    first, after = judged[0].version, judged[1:]
    if not after:
        return f"{first} alone, compared with none"
    same = sum(release.verdict.passes for release in after)
    return f"{same} of {counted(len(after), 'release')} after {first} give what the one before them gives"


def _lock(passing: Sequence[str], overlays: dict[str, Overlay], path: Path, subject: Subject) -> CheckResult:
    shown = one_line(path, 4096)
    if not passing:
        return CheckResult(
            id="releases.lock",
            status=Status.FAILED,
            reason=f"{shown} was not written: the first release does not pass",
            seconds=0.0,
        )
    write_lock(path, passing, overlays, checkpoint=one_line(subject.checkpoint))
    reason = f"{shown}: {passing[-1]}, the newest of {len(passing)} that agree"
    return CheckResult(id="releases.lock", status=Status.PASSED, reason=reason, seconds=0.0)
