"""Wrappers: the model inside is found, and its names are its class's own."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from tests.theworld_validate.subjects import loaders
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.results import InputError
from theworld_validate.subjects.wrappers import own_name, unwrap


@pytest.mark.parametrize(
    ("load", "kind", "prefix"),
    [
        (loaders.auto, None, ""),
        (loaders.wrapped, "DataParallel", "module."),
        (loaders.holder, "Holder", "inner."),
        (loaders.returns_pair, "tuple", ""),
        (loaders.compiled_outside, "OptimizedModule", "_orig_mod."),
        (loaders.peft_fresh, "PeftModel", "base_model.model."),
        (loaders.peft_merged, None, ""),
    ],
)
def test_the_model_inside_is_found(
    tiny: SyntheticCheckpoint, load: Callable[..., Any], kind: str | None, prefix: str
) -> None:
    loaded = load(str(tiny.gemma))
    found = unwrap(loaded)
    assert type(found.model) is Gemma3ForConditionalGeneration
    assert (found.kind, found.prefix) == (kind, prefix)
    outer = {name for name, _ in found.outer.named_parameters(remove_duplicate=False)}
    assert outer == {prefix + name for name, _ in found.model.named_parameters(remove_duplicate=False)}
    assert unwrap(found) is found


def test_wrappers_around_wrappers_are_said_outermost_first(tiny: SyntheticCheckpoint) -> None:
    found = unwrap((nn.DataParallel(loaders.holder(str(tiny.gemma))), {}))
    assert (found.kind, found.prefix) == ("tuple > DataParallel > Holder", "module.inner.")
    assert type(found.model) is Gemma3ForConditionalGeneration


def test_a_module_around_no_model_or_two_is_taken_as_it_is(gemma: Gemma3ForConditionalGeneration) -> None:
    for module in (nn.Linear(2, 2), nn.ModuleList([gemma, copy.deepcopy(gemma)])):
        assert unwrap(module).model is module
        assert unwrap(module).kind is None


@pytest.mark.parametrize("returned", [None, 5, "gemma", {}, (), ({}, 3), object()])
def test_what_is_no_model_is_refused(returned: object) -> None:
    with pytest.raises(InputError, match=r"^me:load returned .*; a loader returns the model that it loaded"):
        unwrap(returned, target="me:load")


def test_an_adapters_base_has_its_own_names(tiny: SyntheticCheckpoint, gemma: Gemma3ForConditionalGeneration) -> None:
    model = unwrap(loaders.peft_fresh(str(tiny.gemma))).model
    rename = own_name(model)
    names = {rename(name) for name, _ in model.named_parameters(remove_duplicate=False)}
    own = {name for name, _ in gemma.named_parameters(remove_duplicate=False)}
    assert own < names
    assert all("lora_" in name for name in names - own)


def test_two_names_never_become_one() -> None:
    layer = nn.Linear(1, 1)
    layer.add_module("base_layer", nn.Linear(1, 1))
    module = nn.ModuleDict({"layer": layer})
    rename = own_name(module)
    names = [name for name, _ in module.named_parameters()]
    assert len({rename(name) for name in names}) == len(names) == 4
