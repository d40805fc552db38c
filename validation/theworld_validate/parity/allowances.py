"""Differences that a user means and allows: they are counted and shown, and nothing else is let through with them.

In: a comparison and what is allowed. Out: the comparison without exactly those differences, and a check for each
allowance that says how many places it was used for. One that nothing used is a finding: it would hide the next fault.
"""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.places import WRAPPER, without_wrappers
from theworld_validate.documents.observations import (
    LOADED_SECTIONS,
    OF_TEXT,
    PROBE_SECTIONS,
    Fingerprint,
    Observation,
    Section,
    num_tensors,
    parameter_gradients,
)
from theworld_validate.results import CheckResult, Finding, InputError, Status

if TYPE_CHECKING:
    from theworld_validate.parity.judge import Comparison, Side

EXTRA, PREFIX, ATTRIBUTE = "extra", "prefix", "attribute"
_NO_GRADIENT: Observation = {"gradient": "none"}
_EXTRA_SECTIONS = ("parameters", "buffers", "modules", "gradients", "trace", "round_trip")
_ATTRIBUTE = "attribute."  # what the field of such a value begins with
_OF_THE_INSTANCE = ("training", "hooks", "overrides", "compiled")  # what is no consequence of another class


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What may differ: a kind, and a pattern of the places where it may, as a shell has them."""

    kind: str
    pattern: str = "*"

    @property
    def option(self) -> str:
        """As it is typed."""
        if self.kind in (EXTRA, PREFIX):
            return f"--{'allow-extra' if self.kind == EXTRA else 'prefix'} {self.pattern}"
        return f"--allow {self.kind}" + (f":{self.pattern}" if self.pattern != "*" else "")

    def matches(self, location: str) -> bool:
        """Whether a location is meant."""
        return fnmatch.fnmatchcase(location, self.pattern)


def parse_allowance(text: str) -> Allowance:
    """Read "KIND" or "KIND:PATTERN".

    Raises:
        InputError: if there is no such kind, or the pattern is missing or empty.
    """
    kind, colon, pattern = text.partition(":")
    if kind not in KINDS or kind in (EXTRA, PREFIX):
        known = [name for name in KINDS if name not in (EXTRA, PREFIX)]
        raise InputError(f"--allow {text}: no such kind; there are {', '.join(known)}{did_you_mean(kind, known)}")
    if colon and not pattern:
        raise InputError(f"--allow {text}: the pattern is empty; leave the colon out to allow it everywhere")
    if kind == "config.field" and not colon:
        raise InputError("--allow config.field needs the field: --allow config.field:config.use_cache")
    return Allowance(kind=kind, pattern=pattern or "*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Used:
    """What an allowance was used for: places of a section, and what is said of them."""

    comparison: "Comparison"
    section: str
    places: list[str]
    what: str


def allow(comparison: "Comparison", allowances: Sequence[Allowance]) -> "tuple[Comparison, tuple[CheckResult, ...]]":
    """Take allowed differences out of a comparison.

    Returns:
        The comparison, and one check for each allowance, which says what was not compared; it fails where there was
        nothing to allow.
    """
    checks: list[CheckResult] = []
    taken: set[str] = set()
    gradients, _ = _both(comparison, "gradients")
    for allowance in dict.fromkeys(allowances):
        used = KINDS[allowance.kind](comparison, allowance)
        comparison = used.comparison
        check_id = f"parity.allowed.{allowance.kind}"
        while check_id in taken:
            check_id = f"parity.allowed.{allowance.kind}.{len(taken)}"
        taken.add(check_id)
        checks.append(_check(allowance, used, check_id))
    return _less_gradients(comparison, gradients), tuple(checks)


def less_allowed(seen: Fingerprint, reference: Fingerprint, allowances: Sequence[Allowance]) -> Fingerprint:
    """One load of the candidate, less the places and attributes that it may have beside the reference's.

    What is in none but the candidate and allowed there need not be equal in two loads of it either.

    Args:
        reference: as it was observed; what it has itself is never left out.
    """
    sections = {name: seen.sections[name] for name in LOADED_SECTIONS if name in seen.sections}
    for allowance in allowances:
        for name, section in sections.items():
            ours = reference.sections.get(name, {})
            if allowance.kind == EXTRA and name in _EXTRA_SECTIONS:
                sections[name] = _less(section, set(_extra_places(name, ours, section, allowance)))
            elif allowance.kind == ATTRIBUTE and name == "modules":
                sections[name] = _less_fields(section, _extra_attributes(ours, section, allowance))
    return replace(seen, sections={**seen.sections, **sections})


def _allow_rng(comparison: "Comparison", allowance: Allowance) -> _Used:
    ours, theirs = _both(comparison, "globals")
    moved = [n for n in ours if n.startswith("rng_state") and n in theirs and ours[n] != theirs[n]]
    moved = [name for name in moved if allowance.matches(name)]
    changed = {"globals": {**theirs, **{name: ours[name] for name in moved}}} if moved else {}
    return _Used(
        comparison=_with(comparison, candidate=changed),
        section="globals",
        places=moved,
        what="loading drew random numbers",
    )


def _allow_requires_grad(comparison: "Comparison", allowance: Allowance) -> _Used:
    ours, theirs = _both(comparison, "parameters")
    flag = "requires_grad"
    names = [n for n in ours if n in theirs and ours[n].get(flag) != theirs[n].get(flag) and allowance.matches(n)]
    names = [name for name in names if flag in ours[name] and flag in theirs[name]]
    as_ours = {**theirs, **{name: {**theirs[name], flag: ours[name][flag]} for name in names}}
    expected, actual = _both(comparison, "gradients")
    gradients = [place for n in names for place in (n, f"{n}{OF_TEXT}")]
    gradients = [place for place in gradients if place in expected and place in actual]
    without = {n for n in gradients if (expected[n] == _NO_GRADIENT) != (actual[n] == _NO_GRADIENT)}
    what = "frozen or trained otherwise in the candidate"
    if without:
        num_without = len({place.removesuffix(OF_TEXT) for place in without})
        what += f"; of {num_without:,} of them no gradient was compared"
    reference = {"gradients": _less(expected, without)} if without else {}
    candidate = {"parameters": as_ours, **({"gradients": _less(actual, without)} if without else {})}
    return _Used(
        comparison=_with(comparison, reference=reference, candidate=candidate) if names else comparison,
        section="parameters",
        places=names,
        what=what,
    )


def _less_gradients(comparison: "Comparison", before: Section) -> "Comparison":
    """Ask for no gradients where all of `before`, the reference's, were left out with parameters that are frozen.

    The losses and the gradient of given embeddings need no parameter that is trained: where they differ, the section
    is compared all the same.
    """
    ours, theirs = _both(comparison, "gradients")
    is_left = num_tensors(parameter_gradients(ours)) or diff_section("gradients", ours, theirs)
    if is_left or len(ours) == len(before):
        return comparison
    sections = tuple(name for name in comparison.plan.sections if name != "gradients")
    return replace(comparison, plan=replace(comparison.plan, sections=sections))


def _allow_config_field(comparison: "Comparison", allowance: Allowance) -> _Used:
    ours, theirs = _both(comparison, "config")
    places = [n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n) and allowance.matches(n)]
    kept = _less(theirs, set(places)) | {name: ours[name] for name in places if name in ours}
    changed = {"config": kept} if places else {}
    return _Used(comparison=_with(comparison, candidate=changed), section="config", places=places, what="set otherwise")


def _allow_class(comparison: "Comparison", allowance: Allowance) -> _Used:
    """Modules of another class, with their own attributes, and what they hold one step further in."""
    ours, theirs = _both(comparison, "modules")
    places = [
        name
        for name in ours
        if name in theirs and ours[name].get("class") != theirs[name].get("class") and allowance.matches(name)
    ]
    as_ours = {
        name: {**ours[name], **{field: theirs[name].get(field) for field in _OF_THE_INSTANCE if field in theirs[name]}}
        for name in places
    }
    inner = {name for name in theirs if name not in ours and without_wrappers(name) in places}
    modules = {**_less(theirs, inner), **as_ours}
    expected, actual = _both(comparison, "trace")
    further = {n for n in actual if n not in expected and _module(n) in inner}
    changed = {"modules": modules, "trace": _less(actual, further)} if places else {}
    return _Used(
        comparison=_with(comparison, candidate=changed), section="modules", places=places, what="of another class"
    )


def _allow_wrapper(comparison: "Comparison", allowance: Allowance) -> _Used:
    ours, theirs = _both(comparison, "modules")
    around = theirs.get(WRAPPER, {})
    value = around.get("prefix" if allowance.kind == PREFIX else "kind")
    is_meant = WRAPPER in theirs and WRAPPER not in ours and allowance.matches(str(value))
    changed = {"modules": _less(theirs, {WRAPPER})} if is_meant else {}
    what = ", ".join(f"{name} {value}" for name, value in around.items())
    return _Used(
        comparison=_with(comparison, candidate=changed),
        section="modules",
        places=[WRAPPER] if is_meant else [],
        what=f"what lies around the model ({what}) was not compared",
    )


def _allow_extra(comparison: "Comparison", allowance: Allowance) -> _Used:
    """Parameters, buffers, modules and what follows from them that the candidate has beside the reference's."""
    places: list[str] = []
    changed: dict[str, Section] = {}
    saved_changed: dict[str, Section] = {}
    for section in _EXTRA_SECTIONS:
        ours, theirs = _both(comparison, section)
        extra = _extra_places(section, ours, theirs, allowance)
        if extra:
            changed[section] = _less(theirs, set(extra))
        places += [name for name in extra if section in ("modules", "parameters", "buffers")]
    if comparison.saved is not None:
        for section in ("parameters", "buffers"):
            seen = comparison.saved.sections.get(section, {})
            ours, _ = _both(comparison, section)
            saved_changed[section] = _less(seen, set(_extra_places(section, ours, seen, allowance)))
        kept = replace(comparison.saved, sections={**comparison.saved.sections, **saved_changed})
        comparison = replace(comparison, saved=kept)
    return _Used(
        comparison=_with(comparison, candidate=changed),
        section="parameters",
        places=places,
        what="only in the candidate: " + ", ".join(places[:5]) + (", ..." if len(places) > 5 else ""),
    )


def _allow_attribute(comparison: "Comparison", allowance: Allowance) -> _Used:
    """Values that modules of the candidate carry and the reference's do not: by their name, or module and name."""
    ours, theirs = _both(comparison, "modules")
    meant = _extra_attributes(ours, theirs, allowance)
    return _Used(
        comparison=_with(comparison, candidate={"modules": _less_fields(theirs, meant)} if meant else {}),
        section="modules",
        places=[f"{place}.{field.removeprefix(_ATTRIBUTE)}" for place, field in meant],
        what="an attribute that only the candidate has was not compared",
    )


KINDS: dict[str, Callable[["Comparison", Allowance], _Used]] = {
    "requires_grad": _allow_requires_grad,
    "rng": _allow_rng,
    "config.field": _allow_config_field,
    "class": _allow_class,
    ATTRIBUTE: _allow_attribute,
    "wrapper": _allow_wrapper,
    PREFIX: _allow_wrapper,
    EXTRA: _allow_extra,
}


def _extra_places(section: str, reference: Section, candidate: Section, allowance: Allowance) -> list[str]:
    return [name for name in candidate if name not in reference and allowance.matches(_place(section, name))]


def _extra_attributes(reference: Section, candidate: Section, allowance: Allowance) -> list[tuple[str, str]]:
    """Places and fields of what modules of both sides carry in the candidate alone."""
    return [
        (place, field)
        for place, seen in candidate.items()
        if place in reference
        for field in seen
        if field.startswith(_ATTRIBUTE) and field not in reference[place]
        for name in [field.removeprefix(_ATTRIBUTE)]
        if allowance.matches(name) or allowance.matches(f"{place}.{name}")
    ]


def _place(section: str, location: str) -> str:
    """A location as the model names it: less a trace's probe, a round trip's part, or a gradient's prompt."""
    if section in PROBE_SECTIONS:
        return _module(location)
    if section == "gradients":
        return location.removesuffix(OF_TEXT)
    return location.rpartition("/")[2] if section == "round_trip" else location


def _module(location: str) -> str:
    """The module of a trace's location: less the probe, the call and the port."""
    path = location.partition("/")[2]
    return path.partition("#")[0].partition("(")[0].partition("[")[0]


def _less(section: Section, names: set[str]) -> Section:
    return {name: seen for name, seen in section.items() if name not in names}


def _less_fields(section: Section, places: Sequence[tuple[str, str]]) -> Section:
    left_out = set(places)
    return {
        place: {field: value for field, value in seen.items() if (place, field) not in left_out}
        for place, seen in section.items()
    }


def _both(comparison: "Comparison", section: str) -> tuple[Section, Section]:
    return comparison.expected.sections.get(section, {}), comparison.actual.sections.get(section, {})


def _with(
    comparison: "Comparison", *, candidate: dict[str, Section], reference: dict[str, Section] | None = None
) -> "Comparison":
    def changed(side: "Side", sections: dict[str, Section]) -> "Side":
        fingerprint = replace(side.fingerprint, sections={**side.fingerprint.sections, **sections})
        return replace(side, fingerprint=fingerprint)

    control = comparison.control
    if control is not None and reference:
        seen = control.fingerprint.sections
        own = {name: _less(seen[name], seen[name].keys() - kept.keys()) for name, kept in _there(reference, seen)}
        control = changed(control, own)
    return replace(
        comparison,
        reference=changed(comparison.reference, reference or {}),
        candidate=changed(comparison.candidate, candidate),
        control=control,
    )


def _there(sections: dict[str, Section], seen: dict[str, Section]) -> Iterator[tuple[str, Section]]:
    return ((name, kept) for name, kept in sections.items() if name in seen)


def _check(allowance: Allowance, used: _Used, check_id: str) -> CheckResult:
    places = used.places
    more = f" (first of {len(places):,} places)" if len(places) > 1 else ""
    if places:
        finding = Finding(
            code=f"{used.section}.allowed",
            severity="warning",
            location=places[0],
            message=f"{places[0]}: {used.what}{more}: allowed",
            section=used.section,
        )
    else:
        finding = Finding(
            code="allowance.unused",
            location=allowance.option,
            message=f"{allowance.option}: nothing differs that it allows",
            cause="unused allowance: what it was given for is no longer there, or its pattern matches nothing",
            remedy="leave it out: it would let the next such difference through",
        )
    return CheckResult(
        id=check_id,
        status=Status.PASSED if places else Status.FAILED,
        reason=f"{allowance.option}: {used.what}" if places else f"{allowance.option}: nothing used it",
        seconds=0.0,
        measurements={"places": len(places)},
        findings=(finding,),
    )
