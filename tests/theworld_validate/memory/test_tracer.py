"""Each storage is told of the module that ran when it was asked for; the names cost no byte and no request."""

import contextlib
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from theworld_validate.memory.tracer import Event, StorageTracer, modules_named


class Inner(nn.Module):
    """A leaf between two requests of its own parent."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        return self.norm(x_BD.sin()).cos()


class Outer(nn.Module):
    """What it asks for after its last leaf is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Inner(), Inner()

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        first_BD = checkpoint(self.first, x_BD, use_reentrant=False)
        return self.second(first_BD).exp().sum()


def traced(*, is_named: bool) -> tuple[list[Event], str]:
    """A step of the model, and the module that is named after it."""
    with FakeTensorMode():
        model = Outer()
        x_BD = torch.zeros(4, 8)
        tracer = StorageTracer()
        for name, parameter in model.named_parameters():
            tracer.adopt(parameter, "parameters", name)
        tracer.adopt(x_BD, "inputs", "x")
        named: Any = modules_named(tracer, model) if is_named else contextlib.nullcontext()
        with tracer, named:
            for _ in range(2):
                tracer.phase = "forward"
                loss = model(x_BD)
                tracer.phase = "backward"
                loss.backward()
    return tracer.trace.events, tracer.module


def test_what_is_asked_for_after_a_leaf_is_its_parents() -> None:
    events, after = traced(is_named=True)
    places = {(e.module, e.operator) for e in events if e.num_bytes > 0 and e.phase == "forward"}
    for part in ("first", "second"):
        assert {(part, "sin"), (f"{part}.norm", "native_layer_norm"), (part, "cos")} <= places
    assert {("Outer", "exp"), ("Outer", "sum")} <= places
    assert not [place for place in places if place[0] == "" or (place[0].endswith("norm") and place[1] == "cos")]
    assert after == ""  # whatever a recomputation that stops early left running


def test_names_change_no_request() -> None:
    (named, _), (bare, _) = traced(is_named=True), traced(is_named=False)
    assert len(named) > 40
    assert [(e.storage, e.num_bytes, e.phase, e.operator) for e in named] == [
        (e.storage, e.num_bytes, e.phase, e.operator) for e in bare
    ]
    assert {e.module for e in bare} == {""}
