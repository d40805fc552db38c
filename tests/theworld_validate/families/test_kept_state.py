"""What a model keeps between calls: a control starts as the first run did; who keeps more is caught."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.theworld_validate.families import keeping
from tests.theworld_validate.families.trials import sides, try_plain_subclass
from theworld_validate.compare.explain import rank_roots
from theworld_validate.fingerprint.kept_state import remember_attributes
from theworld_validate.parity.check import check_parity
from theworld_validate.results import Finding, Status
from theworld_validate.workers.run import Run

TinyOf = Callable[[str], Path]
NAME = "Qwen3VLForConditionalGeneration"


def test_attributes_are_put_back_and_weights_are_not() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[1].kept = None
    put_back = remember_attributes(model)
    model[1].kept, model[1].p, model.seen = torch.ones(2), 0.1, [1]
    with torch.no_grad():
        model[0].weight.fill_(3.0)
    put_back()
    assert (model[1].kept, model[1].p) == (None, 0.5)
    assert not hasattr(model, "seen")
    assert bool((model[0].weight == 3.0).all())


def test_a_plain_subclass_of_a_family_that_keeps_positions_passes(tiny_of: TinyOf) -> None:
    assert try_plain_subclass(NAME, tiny_of(NAME)) == (Status.PASSED, (), None)


@pytest.mark.parametrize(
    ("candidate", "places"),
    [
        ("forgets_the_image", ("model", "text_after_image/embeds/logits")),  # what the last run left, and an answer
        ("keeps_the_last_output", ("left_padded_batch/lm_head",)),  # of the first call there is nothing to keep
    ],
)
def test_a_candidate_that_keeps_or_forgets_is_caught(tiny_of: TinyOf, candidate: str, places: tuple[str, ...]) -> None:
    reference, spoilt = sides(NAME, tiny_of(NAME), f"{keeping.__name__}:{candidate}")
    checks = {check.id: check for check in check_parity(reference, spoilt, run=Run())}
    assert checks["parity.control"].status is Status.PASSED
    failed: list[Finding] = [f for check in checks.values() if check.status is Status.FAILED for f in check.findings]
    assert tuple(root.location for root in rank_roots(failed))[: len(places)] == places
