"""Two fingerprints to findings: what differs, and where first.

In: the same layers of a reference and a candidate. Out: one finding for each kind of difference, at the first
place in order, with the number of further places. Nothing is tolerated: a difference is a finding.
"""

from collections import defaultdict
from dataclasses import replace

from validation.attribution import attribute
from validation.fingerprint.observations import Layer, Observation
from validation.results import Finding

MISSING: Observation = {}


def diff_layer(layer_name: str, reference: Layer, candidate: Layer) -> tuple[Finding, ...]:
    """Compare one layer.

    Args:
        layer_name: one of `observations.LAYERS`; it names the findings' codes.
        reference, candidate: location -> observation; the reference's order is call order.
    """
    differing: dict[str, list[tuple[str, object, object]]] = defaultdict(list)
    in_order = [*reference, *(key for key in candidate if key not in reference)]
    if layer_name == "gradients":  # they flow from the last parameter to the first
        in_order.reverse()
    for location in in_order:
        expected, actual = reference.get(location, MISSING), candidate.get(location, MISSING)
        if expected == actual:
            continue
        if not actual:
            differing["missing"].append((location, _summary(expected), None))
        elif not expected:
            differing["extra"].append((location, None, _summary(actual)))
        else:
            for field in _telling_fields(expected, actual):
                differing[field].append((location, expected.get(field), actual.get(field)))
    return tuple(_finding(layer_name, field, places) for field, places in differing.items())


def diff_trace(reference: Layer, candidate: Layer) -> Finding | None:
    """Find the first place, in the reference's call order, where two traces differ; all later ones may follow."""
    in_order = [*reference, *(location for location in candidate if location not in reference)]
    differing = [location for location in in_order if reference.get(location) != candidate.get(location)]
    if not differing:
        return None
    first = differing[0]
    seen = [{first: layer[first]} if first in layer else {} for layer in (reference, candidate)]
    (finding,) = diff_layer("trace", *seen)
    rest = f" (first of {len(differing):,} of {len(in_order):,} places)"
    return replace(finding, message=finding.message + rest)


def _telling_fields(expected: Observation, actual: Observation) -> list[str]:
    """The fields in which two observations differ, less those that another one explains."""
    fields = [name for name in {**expected, **actual} if expected.get(name) != actual.get(name)]
    if "tied_to" in fields:  # a tied parameter is described where its first name is
        return ["tied_to"]
    if {"dtype", "shape", "tensor"} & set(fields):  # a digest covers dtype and shape
        return [name for name in fields if name != "digest"]
    return fields


def _summary(seen: Observation) -> object:
    return seen.get("value", seen.get("tensor", seen.get("shape", seen.get("class"))))


def _finding(layer_name: str, field: str, places: list[tuple[str, object, object]]) -> Finding:
    location, expected, actual = places[0]
    code = f"{layer_name}.{field}"
    cause, remedy = attribute(code, location, actual)
    first = "first of " if len(places) > 1 else ""
    count = f" ({first}{len(places):,} places)" if len(places) > 1 else ""
    if field in ("missing", "extra"):
        message = f"{location} is {'missing from' if field == 'missing' else 'only in'} the candidate{count}"
    elif field == "digest":
        message = f"{location} differs in its bits{count}"
    else:
        message = f"{location}: {field} is {actual}, expected {expected}{count}"
    return Finding(
        code=code,
        location=location,
        message=message,
        expected=expected,
        actual=actual,
        cause=cause,
        remedy=remedy,
    )
