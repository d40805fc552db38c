"""Two fingerprints to findings: what differs, and where first.

In: the same section of a reference and a candidate. Out: one finding for each kind of difference in each large part,
at the first place in order, with the number of further places. Nothing is tolerated: a difference is a finding.
"""

import re
from collections import Counter, defaultdict
from dataclasses import replace

from theworld_validate.compare.places import CODE, WRAPPER, group_of, without_wrappers
from theworld_validate.documents.observations import Observation, Section
from theworld_validate.results import Finding, Scalar

_NOTHING: Observation = {}
_NO_MODULE = (WRAPPER, CODE)
_WRAPPED_SECTIONS = ("modules", "parameters", "buffers", "trace", "gradients")
# Shown, and no failure: where a tensor lies is no property of the model, and of another class of output with the same
# fields callers can ask the same.
_HARMLESS_FIELDS = {"device", "output_class"}
_SUMMED_UP_BY = ("value", "tensor", "shape", "class", "kind", "code")
_Places = list[tuple[str, Scalar, Scalar]]  # location, expected, actual


def diff_section(section_name: str, reference: Section, candidate: Section) -> tuple[Finding, ...]:
    """Compare one section.

    Args:
        section_name: one of `observations.SECTIONS`; it names the findings' codes.
        reference, candidate: location -> observation; the reference's order is call order.
    """
    return tuple(
        _finding(section_name, field, places)
        for (_, field), places in _differing(section_name, reference, candidate).items()
    )


def differing_places(section_name: str, reference: Section, candidate: Section) -> dict[str, tuple[str, ...]]:
    """All places that each finding of `diff_section` stands for, by the finding's key."""
    return {
        _finding(section_name, field, places).key: tuple(location for location, _, _ in places)
        for (_, field), places in _differing(section_name, reference, candidate).items()
    }


def diff_trace(reference: Section, candidate: Section) -> Finding | None:
    """Find the first place, in the reference's call order, where two traces differ; all later ones may follow."""
    candidate = aligned_section("trace", reference, candidate)
    in_order = [*reference, *(location for location in candidate if location not in reference)]
    differing = [location for location in in_order if not _same(reference.get(location), candidate.get(location))]
    if not differing:
        return None
    # Where tensors lie is shown only if nothing else differs, here or further on.
    telling = [place for place in differing if not _is_harmless(reference.get(place), candidate.get(place))]
    differing = telling or differing
    first = differing[0]
    seen = [{first: section[first]} if first in section else {} for section in (reference, candidate)]
    found = diff_section("trace", *seen)
    finding = next((finding for finding in found if finding.severity == "error"), found[0])
    rest = f" (first of {len(differing):,} of {len(in_order):,} places)"
    return replace(finding, message=finding.message + rest)


def _is_harmless(expected: Observation | None, actual: Observation | None) -> bool:
    return bool(expected) and bool(actual) and set(_telling_fields(expected, actual)) <= _HARMLESS_FIELDS


_NOT_THE_MODULE = re.compile(r"#\d+|[(\[].*")  # which call, and which output of it
_NUMBERED = re.compile(r".*?\.\d+(?=\.|$)")


def _module_of(location: str) -> str:
    """The numbered layer that a place of a trace is in, or its whole module path."""
    path = _NOT_THE_MODULE.sub("", location.partition("/")[2])
    layer = _NUMBERED.match(path)
    return layer[0] if layer else path or "the model"


def divergence_by_module(reference: Section, candidate: Section) -> dict[str, list[Scalar]]:
    """How far a difference spreads over the module tree, in call order.

    Returns:
        Columns of equal length: `modules` (a numbered layer each, or a whole path), `outputs` (how many
        were compared) and `differing` (how many of them differ); empty where nothing differs.
    """
    candidate = aligned_section("trace", reference, candidate)
    differs = {name: not _same(reference.get(name), candidate.get(name)) for name in {**reference, **candidate}}
    if not any(differs.values()):
        return {}
    outputs: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    for location, is_other in differs.items():
        module = _module_of(location)
        outputs[module] += 1
        differing[module] += is_other
    return {
        "modules": list(outputs),
        "outputs": list(outputs.values()),
        "differing": [differing[module] for module in outputs],
    }


def _differing(section_name: str, reference: Section, candidate: Section) -> dict[tuple[str, str], _Places]:
    candidate = aligned_section(section_name, reference, candidate)
    differing: dict[tuple[str, str], _Places] = defaultdict(list)
    in_order = [*reference, *(key for key in candidate if key not in reference)]
    if section_name == "gradients":  # they flow from the last parameter to the first
        in_order.reverse()
    for location in in_order:
        expected, actual = reference.get(location, _NOTHING), candidate.get(location, _NOTHING)
        if _same(expected, actual):
            continue
        group = group_of(section_name, location)
        if not actual:
            differing[group, "missing"].append((location, _summary(expected), None))
        elif not expected:
            differing[group, "extra"].append((location, None, _summary(actual)))
        else:
            for field in _telling_fields(expected, actual):
                differing[group, field].append((location, expected.get(field), actual.get(field)))
    return differing


def _same(expected: Observation | None, actual: Observation | None) -> bool:
    """Whether two observations are equal, and their values of equal types: 1, 1.0 and true are equal in Python."""
    if expected != actual:
        return False
    return (
        expected is None
        or actual is None
        or [*map(type, expected.values())] == [type(actual[name]) for name in expected]
    )


def aligned_section(section_name: str, reference: Section, candidate: Section) -> Section:
    """Find what a wrapper inside the candidate only pushed down a step under the name that the reference has.

    An adapter's `q_proj.base_layer.weight` is compared with `q_proj.weight`; that the module is wrapped is a
    difference of its class.
    """
    if section_name not in _WRAPPED_SECTIONS or all(name in reference for name in candidate):
        return candidate
    names = {name: name if name in reference else without_wrappers(name) for name in candidate}
    inner = {name: bare for name, bare in names.items() if bare != name and bare in reference and bare not in candidate}
    if not inner:
        return candidate
    return {inner.get(name, name): _inner_ties(seen, inner) for name, seen in candidate.items()}


def _inner_ties(seen: Observation, inner: dict[str, str]) -> Observation:
    tied_to = seen.get("tied_to")
    return {**seen, "tied_to": inner[tied_to]} if isinstance(tied_to, str) and tied_to in inner else seen


def _telling_fields(expected: Observation, actual: Observation) -> list[str]:
    """The fields in which two observations differ, less those that another one explains."""
    fields = [
        name
        for name in {**expected, **actual}
        if expected.get(name) != actual.get(name) or type(expected.get(name)) is not type(actual.get(name))
    ]
    if "tied_to" in fields:  # a tied parameter is described where its first name is
        return ["tied_to"]
    if {"dtype", "shape", "tensor", "unreadable"} & set(fields):  # a digest covers dtype and shape
        return [name for name in fields if name not in ("digest", "output_class", "output_fields")]
    if "output_class" not in fields:  # one's own subclass may give more
        return [name for name in fields if name != "output_fields"]
    return fields


def _summary(seen: Observation) -> Scalar:
    return next((seen[name] for name in _SUMMED_UP_BY if name in seen), None)


def _finding(section_name: str, field: str, places: _Places) -> Finding:
    location, expected, actual = places[0]
    count = f" (first of {len(places):,} places)" if len(places) > 1 else ""
    if field in ("missing", "extra"):
        message = f"{location} is {'missing from' if field == 'missing' else 'only in'} the candidate{count}"
        if field == "extra" and location.startswith(_NO_MODULE):
            message += f": {actual}"
    elif field == "digest":
        message = f"{location} differs in its bits{count}"
    else:
        message = f"{location}: {field} is {actual}, expected {expected}{count}"
    return Finding(
        code=f"{section_name}.{field}",
        severity="warning" if field in _HARMLESS_FIELDS else "error",
        location=location,
        message=message,
        expected=expected,
        actual=actual,
        section=section_name,
        field=field,
    )
