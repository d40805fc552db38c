"""Neighbours judged: what one release does with a checkpoint, against the release before it.

In: what was seen in two releases. Out: a verdict (equal, equivalent, changed at a module, unsafe, failed), one for
each probe, and the cause.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from theworld_validate.compare.causes import Cause
from theworld_validate.compare.differences import diff_section, differing_places
from theworld_validate.compare.explain import Evidence, explain, rank_roots
from theworld_validate.compare.places import WHOLE_MODEL
from theworld_validate.documents.fingerprint import FingerprintFile
from theworld_validate.documents.observations import Failure, Fingerprint, probe_of
from theworld_validate.releases.alignment import Aligned, align
from theworld_validate.releases.numbers import compare_probe
from theworld_validate.releases.requests import Exchange, Loading
from theworld_validate.results import Finding

_NAMED = 3  # keys that a sentence names
_STATE = ("parameters", "buffers")  # of which a difference is a cause
_COMPUTING = ("modules",)  # of which one may be
_WORDS = {
    "untied": "random, no longer tied",
    "drawn_anew": "drawn anew after they were read",
    "unset": "(buffers) left as the memory was",
}
_REMEDIES = {
    "untied": "tie them in the model's class, or save both tensors",
    "drawn_anew": "initialise with torch.nn.init or transformers.initialization, which leave loaded weights alone",
    "unset": "set the buffer in the class's _init_weights, or make it persistent",
}


class Verdict(StrEnum):
    """How a release compares with the one before it; the worst of its parts, in this order."""

    EQUAL = "equal"
    EQUIVALENT = "equivalent"
    CHANGED = "changed"
    UNSAFE = "unsafe"
    FAILED = "failed"

    @property
    def passes(self) -> bool:
        """Whether one may go from one release to the other."""
        return self in (Verdict.EQUAL, Verdict.EQUIVALENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a release made of the checkpoint.

    Args:
        version: of the library.
        file: the fingerprint; None where it failed.
        loading: what became of the checkpoint's keys.
        exchange: another release -> what became of the files that it saved.
        unsaved: why a fresh model could not be saved; None where it was.
        failure: why there is no fingerprint.
        seconds: what observing took.
    """

    version: str
    file: FingerprintFile | None = None
    loading: Loading | None = None
    exchange: dict[str, Exchange]
    unsaved: str | None = None
    failure: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One probe in one release, against the release before it."""

    probe: str
    verdict: Verdict
    place: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One release against the one before it.

    Args:
        cells: a verdict for each probe.
        findings: what is not as it was, with causes; empty where all is equal.
        compared: how many tensors were.
        renamed: how many parameters have another name.
    """

    version: str
    before: str | None
    verdict: Verdict
    cells: tuple[Cell, ...] = ()
    findings: tuple[Finding, ...] = ()
    compared: int = 0
    renamed: int = 0

    @property
    def place(self) -> str | None:
        """Where the results change first."""
        return next((cell.place for cell in self.cells if not cell.verdict.passes), None)


def judge_first(seen: Seen, probes: tuple[str, ...]) -> Judged:
    """The oldest named release, which is compared with none: does it load, and is it safe?"""
    findings = tuple(_loading_findings(seen))
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
    findings = [*_loading_findings(seen, _tied_in(before)), *_exchange_findings(before, seen)]
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
    weights = _other_weights(before.file.fingerprint, aligned.fingerprint)
    loaded = Verdict.CHANGED if weights else Verdict.EQUAL
    verdict = max((unsafe, loaded, *(cell.verdict for cell in cells)), key=list(Verdict).index)
    if weights and all(cell.verdict.passes for cell in cells):
        findings.append(_weights_finding(before, seen, weights))
    if any(not cell.verdict.passes for cell in cells):
        findings += _change_findings(before.file.fingerprint, aligned, cells)
    return Judged(
        version=seen.version,
        before=before.version,
        verdict=verdict,
        cells=cells,
        findings=tuple(findings),
        compared=sum(count for _, count in compared),
        renamed=len(aligned.renamed),
    )


def _tied_in(seen: Seen) -> set[str]:
    """Parameters that share the memory of others."""
    parameters = seen.file.fingerprint.sections.get("parameters", {}) if seen.file is not None else {}
    return {name for name, own in parameters.items() if own.get("tied_to") is not None}


def _other_weights(reference: Fingerprint, candidate: Fingerprint) -> list[str]:
    """Parameters that both have, and that hold something else."""
    ours, theirs = (side.sections.get("parameters", {}) for side in (reference, candidate))
    fields = ("digest", "dtype", "shape")
    return [name for name in ours if name in theirs and any(ours[name].get(f) != theirs[name].get(f) for f in fields)]


def _weights_finding(before: Seen, seen: Seen, weights: list[str]) -> Finding:
    more = f" (first of {len(weights):,})" if len(weights) > 1 else ""
    return Finding(
        code="releases.weights",
        location=weights[0],
        message=f"{seen.version} has other weights than {before.version}: {weights[0]}{more}, which no answer shows",
        cause="the release reads or converts the checkpoint's tensors otherwise",
        remedy="compare that tensor with the file's; ask a probe that reaches it",
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


def _loading_findings(seen: Seen, ties: Collection[str] = ()) -> Iterator[Finding]:
    """What is unsafe about how a release loads the checkpoint, or why it does not."""
    if seen.failure is not None:
        yield Finding(
            code="releases.failed",
            location=seen.version,
            message=f"{seen.version}: {seen.failure}",
            cause="this release cannot load or run the checkpoint",
            remedy="leave it out, or name a release that has this model",
        )
    if seen.loading is not None:
        yield from unsafe_findings(seen.loading, f"{seen.version} loads the checkpoint with", ties=ties)


def unsafe_findings(loading: Loading, opening: str, *, ties: Collection[str] = ()) -> Iterator[Finding]:
    """A finding for each way in which loading left tensors without what the files hold.

    Args:
        ties: tensors that share the memory of others in another release.
    """
    untied = tuple(sorted({*loading.missing, *loading.random}.intersection(ties)))
    missing = tuple(name for name in loading.missing if name not in ties)
    known = {*loading.missing, *loading.drawn_anew, *loading.unset_buffers, *untied}
    silent = tuple(name for name in loading.random if name not in known)
    kinds = (
        ("untied", untied, Cause.LOST_TIE, "another release has them share memory with what the files hold"),
        ("missing", missing, Cause.LOST_KEY, "no key of the files is read into them"),
        ("mismatched", loading.mismatched, Cause.LOST_KEY, "the files hold another shape"),
        ("random", silent, Cause.LOST_KEY, "they differ with the seed, and the library does not say so"),
        ("drawn_anew", loading.drawn_anew, Cause.REINITIALISED, "the files hold them, and they differ with the seed"),
        ("unset", loading.unset_buffers, Cause.BUFFER_VALUE, "no file holds them, and nothing set them after loading"),
    )
    for kind, names, cause, why in kinds:
        if not names:
            continue
        unread = f", and {len(loading.unexpected)} keys unread" if loading.unexpected and kind == "missing" else ""
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        yield Finding(
            code=f"releases.{kind}",
            location=names[0],
            message=f"{opening} {len(names)} of {loading.num_keys} tensors {_WORDS.get(kind, kind)}{unread}: {shown}",
            expected=0,
            actual=len(names),
            cause=f"{cause}: {why}" + ("; the release has other names for them" if unread else ""),
            remedy=_REMEDIES.get(kind, "use a release that reads these files, or rename the keys"),
            section="buffers" if kind == "unset" else "parameters",
            field=kind,
        )


def _exchange_findings(before: Seen, seen: Seen) -> Iterator[Finding]:
    """Whether each of two neighbours reads what the other one saves."""
    for reader, writer in ((seen, before), (before, seen)):
        exchange = reader.exchange.get(writer.version)
        if exchange is None:
            continue
        if exchange.failure is not None:
            yield Finding(
                code="releases.exchange_failed",
                location=reader.version,
                message=f"{reader.version} cannot load what {writer.version} saves: {exchange.failure}",
                cause="saving or loading: the two releases write and read other files",
                remedy=f"save for {reader.version} with a release that it reads",
                section="round_trip",
                field="exchange",
            )
        elif exchange.loading is not None:
            opening = f"what {writer.version} saves of a new model, {reader.version} loads with"
            yield from unsafe_findings(exchange.loading, opening)


def _nothing_before(before: Seen, seen: Seen) -> Finding:
    return Finding(
        code="releases.not_compared",
        location=seen.version,
        message=f"{seen.version} works, and there is nothing to compare it with: {before.version} failed",
        cause=f"{before.version} could not be observed",
        remedy="name a release before it that works",
    )


def _change_findings(reference: Fingerprint, aligned: Aligned, cells: tuple[Cell, ...]) -> list[Finding]:
    """One finding a changed probe, at its first place; and what of the state explains it."""
    found: list[Finding] = []
    for name in (*_STATE, *_COMPUTING):
        own = reference.sections.get(name, {}), aligned.fingerprint.sections.get(name, {})
        # Names that only one release has (a new flag, a further buffer) explain nothing by themselves.
        found += [f for f in diff_section(name, *own) if f.field not in ("missing", "extra") and _tells(f, cells)]
    for cell in cells:
        if not cell.verdict.passes:
            found += _finding_of(cell, reference, aligned.fingerprint)
    evidence = Evidence(places=_places_of_tied(reference, aligned.fingerprint))
    explained = explain(found, evidence)
    roots = {finding.key for finding in explained if finding.explained_by is not None}
    # Of the state, what explains a change; the rest is as it may be between releases.
    used = {finding.explained_by for finding in explained if finding.key in roots}
    kept = [f for f in explained if f.section in ("trace", "outputs", "generation", "releases") or f.key in used]
    return [*rank_roots(kept), *(f for f in kept if f.explained_by is not None)]


def _places_of_tied(reference: Fingerprint, candidate: Fingerprint) -> dict[str, tuple[str, ...]]:
    """A parameter that others are tied to is in their modules too: all of its places, by the finding's key."""
    own = [side.sections.get("parameters", {}) for side in (reference, candidate)]
    found: dict[str, tuple[str, ...]] = {}
    for key, places in differing_places("parameters", *own).items():
        tied = [name for side in own for name, seen in side.items() if seen.get("tied_to") in places]
        if tied:
            found[key] = (*places, *dict.fromkeys(tied))
    return found


def _tells(finding: Finding, cells: tuple[Cell, ...]) -> bool:
    """Whether a difference of state may change a result.

    A new attribute of a module is not one of these; nor is a module, between releases, that nothing changes inside of.
    """
    if finding.section != "modules":
        return True
    if finding.expected is None or finding.actual is None:
        return False
    paths = [(cell.place or "").partition("/")[2] for cell in cells if not cell.verdict.passes and cell.why is None]
    return finding.location == WHOLE_MODEL or any(path.startswith(f"{finding.location}.") for path in paths)


def _finding_of(cell: Cell, reference: Fingerprint, candidate: Fingerprint) -> list[Finding]:
    place = cell.place or cell.probe
    section = _section_of(place, reference, candidate)
    if cell.why is not None:
        return [
            Finding(
                code=f"{section}.raised",
                location=place,
                message=f"{cell.probe}: {cell.why}",
                cause="its own code fails where it did not, or no longer does",
                remedy="see the release's own notes",
                section=section,
                field="raised",
            )
        ]
    own = [{place: side.sections.get(section, {}).get(place, {})} for side in (reference, candidate)]
    return [f for f in diff_section(section, *own) if probe_of(f.location) == cell.probe]


def _section_of(place: str, *sides: Fingerprint) -> str:
    """The section of probes that a place is of."""
    names = ("trace", "outputs", "generation")
    return next((name for name in names if any(place in side.sections.get(name, {}) for side in sides)), names[0])
