"""Neighbours judged: what one release does with a checkpoint, against the release before it.

In: what was seen in two releases, and the truth: what the earlier one gives in a wider dtype. Out: a verdict (equal,
equivalent, changed at a module, unsafe, failed, undecidable), one for loading and one for each probe, and the cause.
"""

from dataclasses import replace

from theworld_validate.documents.observations import STATE_SECTIONS, Fingerprint
from theworld_validate.releases.alignment import align
from theworld_validate.releases.cells import judge_cell, needs_truth
from theworld_validate.releases.explaining import change_findings
from theworld_validate.releases.judged import GRADIENTS, Cell, Judged, Verdict
from theworld_validate.releases.safety import (
    exchange_findings,
    judge_loading,
    loading_findings,
    other_weights,
    tied_in,
    weights_finding,
)
from theworld_validate.releases.seen import Seen, Truth
from theworld_validate.results import Finding


def judge_first(seen: Seen, probes: tuple[str, ...]) -> Judged:
    """The oldest named release, which is compared with none: does it load, and is it safe?"""
    findings = tuple(loading_findings(seen))
    loading = judge_loading(seen, findings, ())
    if loading.verdict is Verdict.EQUAL:
        loading = replace(loading, verdict=Verdict.FIRST)
    cells = tuple(_own_cell(seen, name, loading.verdict) for name in probes)
    raises = [_raises_finding(seen, cell) for cell in cells if cell.raises][:1]
    return Judged(version=seen.version, before=None, loading=loading, cells=cells, findings=(*findings, *raises))


def _own_cell(seen: Seen, name: str, loading: Verdict) -> Cell:
    """What one release answers by itself: an answer that raises is none."""
    if seen.file is None:
        return Cell(probe=name, verdict=loading)
    failures = seen.file.fingerprint.failures
    own = [f for f in failures if (f.section if name == GRADIENTS else f.probe) == name]
    if own:
        return Cell(probe=name, verdict=Verdict.FAILED, place=name, why=own[0].error, raises=True)
    return Cell(probe=name, verdict=Verdict.FIRST)


def _raises_finding(seen: Seen, cell: Cell) -> Finding:
    return Finding(
        code="releases.raised",
        location=cell.probe,
        message=f"{seen.version}: {cell.probe} raises {cell.why}",
        cause="this release cannot answer what others are held against",
        remedy="name an older or newer release first",
    )


def judge_neighbours(before: Seen, seen: Seen, probes: tuple[str, ...], truth: Truth | None = None) -> Judged:
    """Judge a release against the one before it.

    Args:
        probes: their names, and `GRADIENTS` where gradients are to be compared.
        truth: what `before` gives in a wider dtype; without it, what is not equal in its bits is undecidable.
    """
    findings = [*loading_findings(seen, tied_in(before)), *exchange_findings(before, seen)]
    if seen.file is None or before.file is None:
        loading = judge_loading(seen, findings, ())
        verdict = Verdict.FAILED if seen.file is None else Verdict.UNDECIDABLE
        if not findings:
            findings = [_nothing_before(before, seen)]
        cells = tuple(Cell(probe=name, verdict=verdict, why=findings[0].message) for name in probes)
        return Judged(
            version=seen.version, before=before.version, loading=loading, cells=cells, findings=tuple(findings)
        )
    reference = before.file.fingerprint
    aligned = align(reference, seen.file.fingerprint)
    cells = tuple(judge_cell(reference, aligned.fingerprint, truth or Truth(), name) for name in probes)
    # An expert or a row of a table that no probe reaches is a part of the model too.
    weights = other_weights(reference, aligned.fingerprint)
    loading = judge_loading(seen, findings, weights)
    if loading.verdict.passes and (why := _unseen_state(before, seen)) is not None:
        loading = replace(loading, verdict=Verdict.UNDECIDABLE, why=why)
        findings.append(_unseen_finding(seen, why))
    if weights and all(cell.verdict.passes for cell in cells):
        findings.append(weights_finding(before, seen, weights))
    if any(not cell.verdict.passes for cell in cells):
        findings += change_findings(reference, aligned, cells)
    findings += [_unanswered_finding(cell) for cell in cells if cell.unanswered]
    return Judged(
        version=seen.version,
        before=before.version,
        loading=loading,
        cells=cells,
        findings=tuple(findings),
        renamed=len(aligned.renamed),
    )


def _unseen_state(before: Seen, seen: Seen) -> str | None:
    """Why what a model is, its weights or its configuration, is not known of both; None if it is."""
    for one in (before, seen):
        failures = one.file.fingerprint.failures if one.file is not None else ()
        for failure in failures:
            if failure.section in STATE_SECTIONS:
                return f"{one.version}: {failure.section} could not be observed: {failure.error}"
    return None


def _unseen_finding(seen: Seen, why: str) -> Finding:
    return Finding(
        code="releases.undecidable",
        location=seen.version,
        message=why,
        cause="what could not be observed proves nothing",
        remedy="see why it raises, or name another release",
        section="releases",
    )


def probes_to_settle(before: Seen, seen: Seen, probes: tuple[str, ...]) -> tuple[str, ...]:
    """Of which probes the truth is needed: those whose answers may be rounded otherwise."""
    if seen.file is None or before.file is None:
        return ()
    reference = before.file.fingerprint
    candidate: Fingerprint = align(reference, seen.file.fingerprint).fingerprint
    return tuple(name for name in probes if needs_truth(reference, candidate, name))


def _unanswered_finding(cell: Cell) -> Finding:
    count = len(cell.unanswered)
    what = "1 answer was" if count == 1 else f"{count} answers were"
    return Finding(
        code="releases.unanswered",
        severity="warning",
        location=cell.probe,
        message=f"{what} not compared, which neither release gives: {cell.unanswered[0]}",
        cause="what raises in both releases, or has no bits, proves nothing",
        remedy="name a release that answers it, or give --probes that both can answer",
    )


def _nothing_before(before: Seen, seen: Seen) -> Finding:
    return Finding(
        code="releases.not_compared",
        location=seen.version,
        message=f"{seen.version} works, and there is nothing to compare it with: {before.version} failed",
        cause=f"{before.version} could not be observed",
        remedy="name a release before it that works",
    )
