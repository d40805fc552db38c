"""Names across releases: the same tensor under another path, found by its bits.

In: two fingerprints of one checkpoint, in two releases. Out: the second one under the names of the first, and which
parameters were renamed. A path that changed for parameters changed for the modules that hold them, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint, Section

_PARTS = ("modules", "parameters", "buffers", "trace", "gradients")
_ENDS = ".([#"  # what may follow a module's path in a location


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """A fingerprint under another release's names.

    Args:
        renamed: the candidate's name of each renamed parameter -> the reference's.
    """

    fingerprint: Fingerprint
    renamed: dict[str, str]


def align(reference: Fingerprint, candidate: Fingerprint) -> Aligned:
    """Put the candidate's observations under the reference's names, where bits say that they are the same."""
    ours, theirs = (side.sections.get("parameters", {}) for side in (reference, candidate))
    renamed = dict(_renamed(ours, theirs))
    if not renamed:
        return Aligned(fingerprint=candidate, renamed={})
    paths = {_without_common_end(new, old) for new, old in renamed.items()}
    prefixes = dict(sorted(paths, key=lambda pair: -len(pair[0])))
    sections = dict(candidate.sections)
    for name in _PARTS:
        if name in sections:
            sections[name] = _under(reference.sections.get(name, {}), sections[name], prefixes, name in PROBE_SECTIONS)
    return Aligned(fingerprint=replace(candidate, sections=sections), renamed=renamed)


def _renamed(ours: Section, theirs: Section) -> Iterator[tuple[str, str]]:
    """Parameters that only one side names, and that have the bits of exactly one that only the other side names."""
    gone = _by_bits({name: seen for name, seen in ours.items() if name not in theirs})
    new = _by_bits({name: seen for name, seen in theirs.items() if name not in ours})
    for bits, names in new.items():
        if len(names) == 1 and len(gone.get(bits, ())) == 1:
            yield names[0], gone[bits][0]


def _by_bits(section: Section) -> dict[object, list[str]]:
    found: dict[object, list[str]] = {}
    for name, seen in section.items():
        if seen.get("digest"):
            found.setdefault((seen["digest"], seen.get("shape")), []).append(name)
    return found


def _without_common_end(new: str, old: str) -> tuple[str, str]:
    """Two paths, less the parts at the end that they have in common."""
    ours, theirs = new.split("."), old.split(".")
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return ".".join(ours), ".".join(theirs)


def _under(reference: Section, candidate: Section, prefixes: Mapping[str, str], is_of_probes: bool) -> Section:
    """The candidate's observations, in the reference's order and under its names; what has none keeps its own."""
    found: Section = {}
    used: set[str] = set()
    new_name = {_moved(location, prefixes, is_of_probes): location for location in candidate}
    for location in reference:
        own = location if location in candidate else new_name.get(location)
        if own is not None:
            found[location] = candidate[own]
            used.add(own)
    return {**found, **{location: seen for location, seen in candidate.items() if location not in used}}


def _moved(location: str, prefixes: Mapping[str, str], is_of_probes: bool) -> str:
    """A location with the reference's path in place of the candidate's."""
    probe, slash, path = location.partition("/") if is_of_probes else ("", "", location)
    for new, old in prefixes.items():
        rest = path.removeprefix(new)
        if (new and path.startswith(new) and (not rest or rest[0] in _ENDS)) or not new:
            joined = f"{old}{rest}" if new else f"{old}.{path}" if old else path
            return f"{probe}{slash}{joined.lstrip('.')}"
    return location
