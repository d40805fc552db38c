"""Why a release gives other results: findings at the first places, and what of the state explains them.

In: two aligned fingerprints, and a verdict for each probe. Out: findings, roots first.
"""

from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.explain import Evidence, explain, rank_roots
from theworld_validate.compare.places import WHOLE_MODEL
from theworld_validate.documents.observations import Fingerprint, probe_of
from theworld_validate.releases.alignment import Aligned
from theworld_validate.releases.judged import Cell
from theworld_validate.results import Finding

_STATE = ("parameters", "buffers")  # of which a difference is a cause
_COMPUTING = ("modules",)  # of which one may be


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
    evidence = Evidence(compared=frozenset(), weights={}, inputs_equal={}, candidate_repeats=None)
    explained = explain(found, evidence)
    roots = {finding.key for finding in explained if finding.explained_by is not None}
    # Of the state, what explains a change; the rest is as it may be between releases.
    used = {finding.explained_by for finding in explained if finding.key in roots}
    kept = [f for f in explained if f.section in ("trace", "outputs", "generation", "releases") or f.key in used]
    return [*rank_roots(kept), *(f for f in kept if f.explained_by is not None)]


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
