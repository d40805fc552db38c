"""What hangs on modules: hooks of every kind, methods of instances, cycles, and what a used model keeps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.modules import observe_modules
from theworld_validate.fingerprint.state import fingerprint_state
from theworld_validate.subjects.wrappers import unwrap


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))

    def helper(self) -> None: ...


def seen(model: nn.Module) -> Section:
    return observe_modules(unwrap(model))


CHANGES: dict[str, Callable[[Any], object]] = {
    "hooks after load": lambda m: m.first.register_load_state_dict_post_hook(lambda *_: None),
    "hooks before state": lambda m: m.first.register_state_dict_pre_hook(lambda *_: None),
    "overrides helper": lambda m: setattr(m, "helper", lambda: None),
    "overrides state_dict": lambda m: setattr(m.first, "state_dict", dict),
    "overrides its own": lambda m: setattr(m, "helper", m.helper),
    "cycle": lambda m: m.first.add_module("again", m),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_hangs_on_a_module_shows(change: str) -> None:
    model = Model()
    before = seen(model)
    CHANGES[change](model)
    (finding,) = diff_section("modules", before, seen(model))
    assert finding.field == change.split(maxsplit=1)[0]


def test_a_callable_that_is_no_method_of_the_class_is_no_override() -> None:
    model = Model()
    before = seen(model)
    vars(model)["activation"] = torch.relu
    assert seen(model) == before


def test_a_cycle_is_named_and_costs_no_other_section() -> None:
    model = Model()
    model.first.add_module("again", model)
    found = fingerprint_state(model)
    assert not found.failures
    assert found.sections["modules"]["first"]["cycle"] == "again is (model), which holds it"
    assert set(found.sections["parameters"]) == {
        f"{layer}.{name}" for layer in ("first", "second") for name in ("weight", "bias")
    }


def test_a_model_that_was_asked_for_hidden_states_is_as_before(gemma: Any) -> None:
    before = seen(gemma)
    ids = torch.arange(300, 304)[None]
    with torch.no_grad():
        gemma(input_ids=ids, output_hidden_states=True)
    assert any(module._forward_hooks for module in gemma.modules())
    assert seen(gemma) == before
