"""The allowance of attributes: exactly what only the candidate carries, by its name; nothing else is let through."""

import pytest

from tests.theworld_validate.parity.documents import PLAN, whole, with_places
from theworld_validate.parity.allowances import allow, parse_allowance
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.results import Status

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
