"""Why a release gives other results: findings at the first places, and what of the state explains them.

In: two aligned fingerprints, and a verdict for each probe. Out: findings, roots first.
"""

from theworld_validate.compare.differences import diff_section, differing_places
from theworld_validate.compare.explain import Evidence, explain, rank_roots
from theworld_validate.compare.places import WHOLE_MODEL
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.releases.alignment import Aligned
from theworld_validate.releases.judged import Cell, Verdict
from theworld_validate.results import Finding

_STATE = ("parameters", "buffers")  # of which a difference is a cause
_COMPUTING = ("modules",)  # of which one may be
_RUNS = ("trace", "outputs", "generation", "gradients")


def change_findings(reference: Fingerprint, aligned: Aligned, cells: tuple[Cell, ...]) -> list[Finding]:
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
    kept = [f for f in explained if f.section in (*_RUNS, "releases") or f.key in used]
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
    paths = [(cell.place or "").partition("/")[2] for cell in cells if not cell.verdict.passes and not cell.raises]
    return finding.location == WHOLE_MODEL or any(path.startswith(f"{finding.location}.") for path in paths)


def _finding_of(cell: Cell, reference: Fingerprint, candidate: Fingerprint) -> tuple[Finding, ...]:
    if not cell.raises and (cell.findings or cell.verdict is not Verdict.UNDECIDABLE):
        return cell.findings
    if not cell.raises:
        return (
            Finding(
                code="releases.undecidable",
                location=cell.place or cell.probe,
                message=f"{cell.probe}: {cell.why}",
                section="releases",
            ),
        )
    place = cell.place or cell.probe
    section = _section_of(place, reference, candidate)
    return (
        Finding(
            code=f"{section}.raised",
            location=place,
            message=f"{cell.probe}: {cell.why}",
            cause="its own code fails where it did not, or no longer does",
            remedy="see the release's own notes",
            section=section,
            field="raised",
        ),
    )


def _section_of(place: str, *sides: Fingerprint) -> str:
    """The section that a place is of."""
    return next((name for name in _RUNS if any(place in side.sections.get(name, {}) for side in sides)), _RUNS[0])
