"""The trace: every module call in order, aliases once, hooks gone afterwards, compiled or not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from theworld_validate.fingerprint import trace as trace_module
from theworld_validate.fingerprint.digest import digest_tensor
from theworld_validate.fingerprint.trace import Recording, Tracer, iterate_tensors


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"first": x, "rest": (x + 1, [None, x * 2])}


def test_order_and_digests() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Identity(), nn.ReLU())
    x = torch.randn(2, 3)
    with torch.no_grad(), Tracer(model) as tracer, tracer.record(Recording("p/")) as trace:
        y = model(x)
    assert list(trace.section) == ["p/0", "p/1", "p/2", "p/(model)"]
    assert trace.section["p/(model)"]["digest"] == digest_tensor(y)
    assert not any(module._forward_hooks for module in model.modules())


def test_aliases_are_digested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = trace_module.describe_shape
    monkeypatch.setattr(trace_module, "describe_shape", lambda t: calls.append(t.shape) or original(t))
    model = nn.Sequential(nn.Linear(3, 3), nn.Identity(), nn.Identity())
    with torch.no_grad(), Tracer(model) as tracer, tracer.record(Recording()) as trace:
        model(torch.randn(2, 3))
    assert len(trace.section) == 4
    assert len(calls) == 1


def test_a_tensor_changed_in_place_is_digested_again() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Identity(), nn.ReLU(inplace=True))
    nn.init.eye_(model[0].weight)
    with torch.no_grad(), Tracer(model) as tracer, tracer.record(Recording()) as trace:
        y = model(torch.tensor([[1.0, -1.0, 2.0]]))
    assert trace.section["2"]["digest"] == digest_tensor(y) != trace.section["1"]["digest"]


def test_nested_outputs_are_found() -> None:
    x = torch.ones(2)
    assert [path for path, _ in iterate_tensors(Pair()(x))] == [".first", ".rest[0]", ".rest[1][1]"]


def test_hooks_go_when_the_model_raises() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    try:
        with Tracer(model) as tracer, tracer.record(Recording()):
            model(torch.zeros(1, 4))
    except RuntimeError:
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_nothing_is_recorded_between_stretches() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with Tracer(model) as tracer:
        with tracer.record(Recording("a/")) as first:
            model(torch.zeros(1, 3))
        model(torch.zeros(2, 3))
        with tracer.record(Recording("b/")) as second:
            model(torch.zeros(3, 3))
    assert list(first.section) == ["a/0", "a/(model)"]
    assert [seen["tensor"] for seen in second.section.values()] == ["float32[3, 3]"] * 2


class Told(nn.Module):
    def forward(self, x: torch.Tensor, word: str) -> torch.Tensor:
        return x + len(word)


def test_calls_are_told_apart_by_number_and_by_word() -> None:
    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.told, self.again = Told(), nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.again(self.again(self.told(x, "full"))) + self.told(x, "sliding")

    with Tracer(model := Caller()) as tracer, tracer.record(Recording()) as trace:
        model(torch.zeros(1))
    assert list(trace.section) == ["told(full)", "again", "again#2", "told(sliding)", "(model)"]


class Attending(nn.Module):
    def forward(self, x: torch.Tensor, attention_mask: object = None) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    ("mask", "seen"),
    [(None, "None"), (torch.ones(2), "float32[2]"), (nn.Identity(), "Identity")],
    ids=["none", "tensor", "another kind of mask"],
)
def test_the_mask_that_attention_is_called_with_is_seen(mask: object, seen: str) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.self_attn = Attending()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.self_attn(x, attention_mask=mask)

    with Tracer(model := Layer()) as tracer, tracer.record(Recording()) as trace:
        model(torch.zeros(1))
    assert trace.section["self_attn(attention_mask)"]["tensor"] == seen


def test_an_output_without_bits_is_an_observation() -> None:
    model = nn.Sequential(nn.Linear(2, 2, device="meta"))
    with Tracer(model) as tracer, tracer.record(Recording()) as trace:
        model(torch.zeros(1, 2, device="meta"))
    assert trace.section["0"]["tensor"] == "float32[1, 2]"
    assert "meta device" in str(trace.section["0"]["unreadable"])


def compiled_outside(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # pyrefly: ignore


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))


@pytest.mark.parametrize("compiled", [compiled_outside, compiled_in_place])
@pytest.mark.parametrize("has_run", [False, True], ids=["fresh", "has run"])
def test_a_compiled_model_is_traced_as_it_was_written(
    compiled: Callable[[nn.Module], nn.Module], has_run: bool
) -> None:
    torch._dynamo.reset()
    x = torch.ones(2, 3)
    plain = make_model()
    with torch.no_grad(), Tracer(plain) as tracer, tracer.record(Recording()) as expected:
        plain(x)
    assert not tracer.is_compiler_off
    model = compiled(make_model())
    with torch.no_grad():
        if has_run:
            model(x)
        with Tracer(model) as tracer, tracer.record(Recording()) as trace:
            model(x)
        assert tracer.is_compiler_off
        assert trace.section == expected.section
        assert not any(module._forward_hooks for module in model.modules())
        assert torch.equal(model(x), plain(x))


def test_a_compiled_module_inside_is_traced_with_what_it_holds() -> None:
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(3, 3), compiled_outside(nn.Sequential(nn.ReLU())))
    with torch.no_grad(), Tracer(model) as tracer, tracer.record(Recording()) as trace:
        model(torch.ones(2, 3))
    assert list(trace.section) == ["0", "1._orig_mod.0", "1._orig_mod", "1", "(model)"]
