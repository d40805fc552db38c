"""Two fingerprints to findings: what differs, and where first.

In: the same layers of a reference and a candidate. Out: one finding for each kind of difference, at the first
place in order, with the number of further places. Nothing is tolerated: a difference is a finding.
"""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

from theworld_validate.compare.causes import attribute
from theworld_validate.documents.observations import Layer, Observation
from theworld_validate.results import Finding

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


_NOT_THE_MODULE = re.compile(r"#\d+|[(\[].*")  # which call, and which output of it
_LAYER = re.compile(r".*?\.\d+(?=\.|$)")


def _module_of(location: str) -> str:
    """The numbered layer that a place of a trace is in, or its whole module path."""
    path = _NOT_THE_MODULE.sub("", location.partition("/")[2])
    layer = _LAYER.match(path)
    return layer[0] if layer else path or "the model"


def divergence_by_module(reference: Layer, candidate: Layer) -> dict[str, list[Any]]:
    """How far a difference spreads over the module tree, in call order.

    Returns:
        Columns of equal length: `modules` (a numbered layer each, or a whole path), `outputs` (how many
        were compared) and `differing` (how many of them differ); empty where nothing differs.
    """
    if reference == candidate:
        return {}
    outputs: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    for location in {**reference, **candidate}:
        module = _module_of(location)
        outputs[module] += 1
        differing[module] += reference.get(location) != candidate.get(location)
    return {
        "modules": list(outputs),
        "outputs": list(outputs.values()),
        "differing": [differing[module] for module in outputs],
    }


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
