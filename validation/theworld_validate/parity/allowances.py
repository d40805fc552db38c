"""Differences that a user expects and allows: they are counted and shown, and nothing else is let through with them.

In: a comparison and what is allowed. Out: the comparison without exactly those differences, and a check that says how
many there were and what was therefore not compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.results import CheckResult, Finding, Status

if TYPE_CHECKING:
    from theworld_validate.parity.judge import Comparison

_NO_GRADIENT: Observation = {"gradient": "none"}


class Allowance(StrEnum):
    """What may be allowed: what a merged adapter, or a freeze stage, leaves behind."""

    FROZEN = "frozen"  # parameters that the candidate does not train, and that they then have no gradient
    DRAWS = "draws"  # that loading drew random numbers


def allow(comparison: "Comparison", allowances: Sequence[Allowance]) -> "tuple[Comparison, tuple[CheckResult, ...]]":
    """Take allowed differences out of a comparison.

    Returns:
        The comparison, and one check for each kind that was found; it passes, and says what was not compared.
    """
    checks: list[CheckResult] = []
    if Allowance.DRAWS in allowances:
        comparison = _allow_draws(comparison, checks)
    if Allowance.FROZEN in allowances:
        comparison = _allow_frozen(comparison, checks)
    return comparison, tuple(checks)


def _allow_draws(comparison: "Comparison", checks: list[CheckResult]) -> "Comparison":
    ours, theirs = _both(comparison, "globals")
    moved = [name for name in ours if name.startswith("rng_state") and name in theirs and ours[name] != theirs[name]]
    if not moved:
        return comparison
    checks.append(_allowed(Allowance.DRAWS, "globals", moved, "loading drew random numbers"))
    return _with(comparison, candidate={"globals": {**theirs, **{name: ours[name] for name in moved}}})


def _allow_frozen(comparison: "Comparison", checks: list[CheckResult]) -> "Comparison":
    ours, theirs = _both(comparison, "parameters")
    frozen = list(_frozen(ours, theirs))
    if not frozen:
        return comparison
    unfrozen = {**theirs, **{name: {**theirs[name], "requires_grad": True} for name in frozen}}
    expected, actual = _both(comparison, "gradients")
    without = {name for name in frozen if actual.get(name) == _NO_GRADIENT}
    what = "frozen in the candidate"
    if without:
        what += f"; of {len(without):,} of them no gradient was compared"
    checks.append(_allowed(Allowance.FROZEN, "parameters", frozen, what))
    reference = {"gradients": _less(expected, without)} if expected else {}
    candidate = {"parameters": unfrozen, **({"gradients": _less(actual, without)} if actual else {})}
    if without and not reference["gradients"]:  # nothing is trained: there is nothing left to compare
        sections = tuple(name for name in comparison.plan.sections if name != "gradients")
        comparison = replace(comparison, plan=replace(comparison.plan, sections=sections))
    return _with(comparison, reference=reference, candidate=candidate)


def _frozen(ours: Section, theirs: Section) -> Iterator[str]:
    for name, seen in ours.items():
        if seen.get("requires_grad") is True and theirs.get(name, {}).get("requires_grad") is False:
            yield name


def _less(section: Section, names: set[str]) -> Section:
    return {name: seen for name, seen in section.items() if name not in names}


def _both(comparison: "Comparison", section: str) -> tuple[Section, Section]:
    return comparison.expected.sections.get(section, {}), comparison.actual.sections.get(section, {})


def _with(
    comparison: "Comparison", *, candidate: dict[str, Section], reference: dict[str, Section] | None = None
) -> "Comparison":
    def changed(fingerprint: Fingerprint, sections: dict[str, Section]) -> Fingerprint:
        return replace(fingerprint, sections={**fingerprint.sections, **sections})

    sides = {"reference": reference or {}, "candidate": candidate}
    given = {name: getattr(comparison, name) for name in sides}
    done = {name: replace(side, fingerprint=changed(side.fingerprint, sides[name])) for name, side in given.items()}
    if comparison.control is not None and reference:
        control = comparison.control.fingerprint
        own = {
            name: _less(control.sections.get(name, {}), control.sections.get(name, {}).keys() - kept.keys())
            for name, kept in reference.items()
            if name in control.sections
        }
        done["control"] = replace(comparison.control, fingerprint=changed(control, own))
    return replace(comparison, **done)


def _allowed(allowance: Allowance, section: str, places: list[str], what: str) -> CheckResult:
    more = f" (first of {len(places):,} places)" if len(places) > 1 else ""
    finding = Finding(
        code=f"{section}.{allowance}",
        severity="warning",
        location=places[0],
        message=f"{places[0]}: {what}{more}: allowed",
        section=section,
    )
    return CheckResult(
        id=f"parity.allowed.{allowance}",
        status=Status.PASSED,
        reason=f"--allow {allowance}: {what}",
        seconds=0.0,
        measurements={"places": len(places)},
        findings=(finding,),
    )
