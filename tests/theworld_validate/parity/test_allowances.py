"""Allowances of attributes, frozen parameters and further places: exactly what is meant, and nothing else with it."""

from dataclasses import replace

import pytest

from tests.theworld_validate.parity.documents import PLAN, WEIGHT, tensor, whole, with_places
from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.parity.allowances import EXTRA, Allowance, allow, less_allowed, parse_allowance
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.parity.round_trip import check_loads
from theworld_validate.results import CheckResult, Status

ROOT = whole().sections["modules"]["(model)"]


def passes(allowed: str, *, reference: dict[str, object], candidate: dict[str, object]) -> tuple[bool, bool]:
    """Whether `parity.modules` passes, and whether the allowance's own check does."""
    sides = [
        Side(fingerprint=with_places(whole(), "modules", {"(model)": {**ROOT, **fields}}))  # type: ignore[dict-item]
        for fields in (reference, candidate)
    ]
    comparison, (check,) = allow(
        Comparison(plan=PLAN, reference=sides[0], candidate=sides[1]), [parse_allowance(allowed)]
    )
    modules = next(found for found in judge(comparison) if found.id == "parity.modules")
    return modules.status is Status.PASSED, check.status is Status.PASSED


@pytest.mark.parametrize("allowed", ["attribute:label", "attribute", "attribute:(model).label", "attribute:lab*"])
def test_a_label_that_only_the_candidate_carries_is_let_through(allowed: str) -> None:
    assert passes(allowed, reference={}, candidate={"attribute.label": "mine"}) == (True, True)


@pytest.mark.parametrize(
    ("reference", "candidate", "is_used"),
    [
        ({"attribute.eps": 1e-6}, {"attribute.eps": 2e-6}, False),  # both have it
        ({"attribute.eps": 1e-6}, {}, False),  # it is gone
        ({}, {"attribute.label": "mine", "training": True}, True),
        ({}, {"attribute.label": "mine", "hooks": 1}, True),
    ],
)
def test_nothing_else_is_let_through_with_it(
    reference: dict[str, object], candidate: dict[str, object], is_used: bool
) -> None:
    assert passes("attribute", reference=reference, candidate=candidate) == (False, is_used)


def test_another_name_is_not_meant() -> None:
    assert passes("attribute:other", reference={}, candidate={"attribute.label": "mine"}) == (False, False)


# Frozen parameters: what is merged trains nothing.

FROZEN = "model.vision_tower.weight"
BESIDE: Section = {"(inputs_embeds)": tensor(3), "(loss)": tensor(4), "(loss)(text)": tensor(5)}
NONE: Observation = {"gradient": "none"}


def side(*, trained: bool, gradients: Section) -> Side:
    parameters = {WEIGHT: tensor(1, requires_grad=trained), FROZEN: tensor(2, requires_grad=False)}
    sections = {**whole().sections, "parameters": parameters, "gradients": gradients}
    return Side(fingerprint=replace(whole(), sections=sections))


TRAINED: Section = {FROZEN: NONE, WEIGHT: tensor(15), f"{FROZEN}(text)": NONE, f"{WEIGHT}(text)": tensor(16)}
ALL_FROZEN: Section = dict.fromkeys(TRAINED, NONE)


def with_frozen_allowed(candidate: Section) -> dict[str, CheckResult]:
    comparison = Comparison(
        plan=PLAN,
        reference=side(trained=True, gradients={**TRAINED, **BESIDE}),
        candidate=side(trained=False, gradients=candidate),
    )
    comparison, allowed = allow(comparison, [parse_allowance("requires_grad")])
    return {check.id.removeprefix("parity."): check for check in (*allowed, *judge(comparison))}


def test_of_a_candidate_that_is_frozen_as_a_whole_no_gradient_is_asked() -> None:
    checks = with_frozen_allowed({**ALL_FROZEN, **BESIDE})
    assert "gradients" not in checks
    assert checks["parameters"].status is Status.PASSED
    check = checks["allowed.requires_grad"]
    assert check.status is Status.PASSED
    assert "of 1 of them no gradient was compared" in str(check.reason)


@pytest.mark.parametrize("is_first", [True, False])
def test_an_adapter_beside_a_frozen_base_is_allowed_in_any_order(is_first: bool) -> None:
    adapted = side(trained=False, gradients={**ALL_FROZEN, "q_proj.lora_A.weight": tensor(7), **BESIDE})
    extra = Allowance(kind=EXTRA, pattern="*lora_A*")
    allowances = [parse_allowance("requires_grad"), extra]
    comparison = Comparison(
        plan=PLAN,
        reference=side(trained=True, gradients={**TRAINED, **BESIDE}),
        candidate=replace(
            adapted, fingerprint=with_places(adapted.fingerprint, "parameters", {"q_proj.lora_A.weight": tensor(8)})
        ),
    )
    comparison, allowed = allow(comparison, allowances if is_first else allowances[::-1])
    assert {check.status for check in allowed} == {Status.PASSED}
    assert "gradients" not in comparison.plan.sections


@pytest.mark.parametrize("place", list(BESIDE))
def test_its_losses_and_given_embeddings_are_compared_all_the_same(place: str) -> None:
    check = with_frozen_allowed({**ALL_FROZEN, **BESIDE, place: tensor(9)})["gradients"]
    assert (check.status, [finding.location for finding in check.findings]) == (Status.FAILED, [place])


def test_gradients_that_were_not_observed_are_not_taken_for_frozen() -> None:
    assert with_frozen_allowed({})["gradients"].status is Status.FAILED


# Two loads of the candidate.


def loads(first: Fingerprint, second: Fingerprint, allowance: Allowance) -> list[str]:
    """The places at which two loads differ though something is allowed."""
    sides = [less_allowed(load, whole(), [allowance]) for load in (first, second)]
    return [finding.location for check in check_loads(*sides) for finding in check.findings]


def labelled(label: str, **fields: str | bool) -> Fingerprint:
    return with_places(whole(), "modules", {"(model)": {**ROOT, "attribute.label": label, **fields}})


def test_an_allowed_attribute_may_differ_between_two_loads() -> None:
    label = parse_allowance("attribute:label")
    assert loads(labelled("a"), labelled("b"), label) == []
    assert loads(labelled("a"), labelled("b", training=True), label) == ["(model)"]
    assert loads(labelled("a"), labelled("b"), parse_allowance("attribute:other")) == ["(model)"]


def test_an_allowed_further_parameter_may_differ_between_two_loads() -> None:
    """A fresh adapter is drawn at random; each worker draws its own."""
    extra = Allowance(kind=EXTRA, pattern="*lora_A*")
    first, second = (with_places(whole(), "parameters", {"q_proj.lora_A.weight": tensor(n)}) for n in (7, 8))
    assert loads(first, second, extra) == []
    assert loads(first, second, Allowance(kind=EXTRA, pattern="*lora_B*")) == ["q_proj.lora_A.weight"]
    assert loads(first, with_places(second, "parameters", {WEIGHT: tensor(9)}), extra) == [WEIGHT]
    everything = Allowance(kind=EXTRA)  # what the reference has too is not meant
    assert loads(first, with_places(second, "parameters", {WEIGHT: tensor(9)}), everything) == [WEIGHT]
