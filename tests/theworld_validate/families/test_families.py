"""A few families end to end; `benchmarks/families.py` tries more than twenty, and writes their table."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.theworld_validate.families.trials import FAULTS, try_faults, try_plain_subclass
from theworld_validate.results import Status

TinyOf = Callable[[str], Path]


@pytest.mark.parametrize("name", ["BertForMaskedLM", "ViTForImageClassification"])
def test_a_plain_subclass_passes(tiny_of: TinyOf, name: str) -> None:
    verdict, roots, _ = try_plain_subclass(name, tiny_of(name))
    assert (verdict, roots) == (Status.PASSED, ())


def test_a_plain_subclass_of_llava_loses_its_head(tiny_of: TinyOf) -> None:
    """transformers 5.23 converts keys by the class's name."""
    name = "LlavaForConditionalGeneration"
    verdict, roots, _ = try_plain_subclass(name, tiny_of(name))
    assert verdict is Status.FAILED
    assert [root.location for root in roots] == ["lm_head.weight"]
    assert "re-initialised" in str(roots[0].cause)


def test_faults_are_caught_and_placed(tiny_of: TinyOf) -> None:
    name = "LlamaForCausalLM"
    trials = list(try_faults(name, tiny_of(name)))
    assert [trial.fault for trial in trials] == list(FAULTS)
    assert [trial.fault for trial in trials if not trial.placed] == []
