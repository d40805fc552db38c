"""What is not finite: seen in one pass, and the first module that gave it."""

import math

import pytest
import torch
from torch import nn

from theworld_validate.fingerprint.finite import FiniteRecording, find_non_finite
from theworld_validate.fingerprint.trace import Tracer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_value_is_found(dtype: torch.dtype, value: float) -> None:
    largest = torch.finfo(dtype).max
    good = torch.full((3, 50), largest, dtype=dtype)
    good[0] = -largest  # their sum and their difference overflow
    assert find_non_finite([("a", good), ("b", good)]) is None
    bad = good.clone()
    bad[2, 49] = value
    assert find_non_finite([("a", good), ("b", bad), ("c", bad)]) == "b"


def test_float8_is_looked_at() -> None:
    bad = torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn)
    assert find_non_finite([("a", bad)]) == "a"
    assert find_non_finite([("a", torch.ones(2).to(torch.float8_e4m3fn))]) is None


def test_integers_and_empty_tensors_are_finite() -> None:
    assert find_non_finite([("ids", torch.arange(3)), ("none", torch.empty(0))]) is None
    assert find_non_finite([]) is None


class Overflowing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        out[0, :2] = math.inf
        return out


class Attending(nn.Module):
    """A module called `self_attn`, whose mask holds infinities on purpose."""

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return x + attention_mask.exp()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.self_attn, self.second, self.last = nn.Identity(), Attending(), Overflowing(), nn.Identity()

    def forward(self, x: torch.Tensor, *, overflow: bool = True) -> torch.Tensor:
        mask = torch.full((3,), -math.inf)
        x = self.self_attn(self.first(x), attention_mask=mask)
        return self.last(self.second(x) if overflow else x)


def test_the_first_module_is_named_and_counted() -> None:
    model, recording = Model(), FiniteRecording()
    with Tracer(model) as tracer, tracer.record(recording):
        model(torch.zeros(2, 3))
    assert recording.first() == {"first": "second", "tensor": "float32[2, 3]", "non_finite": 2, "places": 3}


def test_masks_are_no_outputs() -> None:
    model, recording = Model(), FiniteRecording()
    with Tracer(model) as tracer, tracer.record(recording):
        model(torch.zeros(2, 3), overflow=False)
    assert recording.first() is None
