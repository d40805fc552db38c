"""Neighbours judged: what one release does with a checkpoint, against the release before it.

In: what was seen in two releases. Out: a verdict (equal, equivalent, changed at a module, unsafe, failed), one for
each probe, and the cause.
"""

from theworld_validate.documents.observations import Failure, Fingerprint
from theworld_validate.releases.alignment import Aligned, align
from theworld_validate.releases.explaining import change_findings
from theworld_validate.releases.judged import Cell, Judged, Verdict
from theworld_validate.releases.numbers import compare_probe
from theworld_validate.releases.safety import (
    exchange_findings,
    loading_findings,
    other_weights,
    unsafe_findings,
    weights_finding,
)
from theworld_validate.releases.seen import Seen
from theworld_validate.results import Finding

__all__ = ["Cell", "Judged", "Seen", "Verdict", "judge_first", "judge_neighbours", "unsafe_findings"]


def judge_first(seen: Seen, probes: tuple[str, ...]) -> Judged:
    """The oldest named release, which is compared with none: does it load, and is it safe?"""
    findings = tuple(loading_findings(seen))
    verdict = Verdict.FAILED if seen.failure else Verdict.UNSAFE if findings else Verdict.EQUAL
    cells = tuple(Cell(probe=name, verdict=verdict if not verdict.passes else _own(seen, name)) for name in probes)
    if verdict.passes and any(cell.verdict is Verdict.FAILED for cell in cells):
        verdict = Verdict.FAILED
        findings = (*findings, _raises_finding(seen, next(c.probe for c in cells if c.verdict is Verdict.FAILED)))
    return Judged(version=seen.version, before=None, verdict=verdict, cells=cells, findings=findings)


def _raises_finding(seen: Seen, probe: str) -> Finding:
    assert seen.file is not None
    error = next(failure.error for failure in seen.file.failures if failure.probe == probe)
    return Finding(
        code="releases.raised",
        location=probe,
        message=f"{seen.version}: {probe} raises {error}",
        cause="this release cannot answer what others are held against",
        remedy="name an older or newer release first",
    )


def _own(seen: Seen, probe: str) -> Verdict:
    raises = seen.file is not None and any(failure.probe == probe for failure in seen.file.failures)
    return Verdict.FAILED if raises else Verdict.EQUAL


def judge_neighbours(before: Seen, seen: Seen, probes: tuple[str, ...]) -> Judged:
    """Judge a release against the one before it."""
    findings = [*loading_findings(seen), *exchange_findings(before, seen)]
    if seen.file is None or before.file is None:
        verdict = Verdict.FAILED if seen.file is None else Verdict.UNSAFE if findings else Verdict.CHANGED
        if not findings:
            findings = [_nothing_before(before, seen)]
        cells = tuple(Cell(probe=name, verdict=verdict) for name in probes)
        return Judged(
            version=seen.version, before=before.version, verdict=verdict, cells=cells, findings=tuple(findings)
        )
    aligned = align(before.file.fingerprint, seen.file.fingerprint)
    compared = [_judge_probe(before.file.fingerprint, aligned, name) for name in probes]
    cells = tuple(cell for cell, _ in compared)
    unsafe = Verdict.UNSAFE if any(finding.severity == "error" for finding in findings) else Verdict.EQUAL
    # An expert or a row of a table that no probe reaches is a part of the model too.
    weights = other_weights(before.file.fingerprint, aligned.fingerprint)
    loaded = Verdict.CHANGED if weights else Verdict.EQUAL
    verdict = max((unsafe, loaded, *(cell.verdict for cell in cells)), key=list(Verdict).index)
    if weights and all(cell.verdict.passes for cell in cells):
        findings.append(weights_finding(before, seen, weights))
    if any(not cell.verdict.passes for cell in cells):
        findings += change_findings(before.file.fingerprint, aligned, cells)
    return Judged(
        version=seen.version,
        before=before.version,
        verdict=verdict,
        cells=cells,
        findings=tuple(findings),
        compared=sum(count for _, count in compared),
        renamed=len(aligned.renamed),
    )


def _judge_probe(reference: Fingerprint, aligned: Aligned, probe: str) -> tuple[Cell, int]:
    ours = _failures(reference, probe)
    theirs = _failures(aligned.fingerprint, probe)
    numbers = compare_probe(reference, aligned.fingerprint, probe)
    if new := [failure for failure in theirs if failure.section not in {own.section for own in ours}]:
        place = _first_missing(reference, aligned.fingerprint, new[0])
        why = f"raises {new[0].error}"
        return Cell(probe=probe, verdict=Verdict.CHANGED, place=place, why=why), numbers.compared
    if mended := [failure for failure in ours if failure.section not in {own.section for own in theirs}]:
        why = f"no longer raises {mended[0].error}"
        place = _first_missing(aligned.fingerprint, reference, mended[0])
        return Cell(probe=probe, verdict=Verdict.CHANGED, place=place, why=why), numbers.compared
    if not numbers.compared:
        return Cell(probe=probe, verdict=Verdict.FAILED, why="nothing was compared"), 0
    verdict = Verdict.EQUAL if numbers.place is None else Verdict.EQUIVALENT if numbers.is_rounding else Verdict.CHANGED
    return Cell(probe=probe, verdict=verdict, place=numbers.place), numbers.compared


def _first_missing(whole: Fingerprint, broken: Fingerprint, failure: Failure) -> str:
    """The first answer that is not there because something raised; one of a kind that is not there at all."""
    prefix = f"{failure.probe}/"
    theirs = broken.subset(failure.section, prefix)
    kinds = {_kind_of(place, prefix) for place in theirs}
    missing = [place for place in whole.subset(failure.section, prefix) if place not in theirs]
    whole_kinds = (place for place in missing if _kind_of(place, prefix) not in kinds)
    return next(whole_kinds, missing[0] if missing else f"{failure.probe}/{failure.section}")


def _kind_of(place: str, prefix: str) -> str:
    """What an answer is called, less which of several it is: "cache" of "cache[0].keys"."""
    return place.removeprefix(prefix).partition("[")[0]


def _failures(fingerprint: Fingerprint, probe: str) -> list[Failure]:
    return [failure for failure in fingerprint.failures if failure.probe == probe]


def _nothing_before(before: Seen, seen: Seen) -> Finding:
    return Finding(
        code="releases.not_compared",
        location=seen.version,
        message=f"{seen.version} works, and there is nothing to compare it with: {before.version} failed",
        cause=f"{before.version} could not be observed",
        remedy="name a release before it that works",
    )
