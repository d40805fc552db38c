"""Code in place of the library's own: each way of putting it there is seen, and what the library does itself is not."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers.loss.loss_utils as losses
from torch import nn
from transformers import Gemma3TextConfig
from transformers.activations import ACT2FN
from transformers.generation import logits_process, stopping_criteria
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from transformers.models.gemma3 import modeling_gemma3
from transformers.utils.generic import can_return_tuple

from theworld_validate.fingerprint.homes import foreign_code
from theworld_validate.fingerprint.patches import observe_patches

Patch = Callable[[pytest.MonkeyPatch], object]
GEMMA = "transformers.models.gemma3.modeling_gemma3"
FORWARD = "def forward(self, x):\n    return self.down_proj(x)\n"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return modeling_gemma3.Gemma3MLP(Gemma3TextConfig(hidden_size=8, intermediate_size=8))


class Calls:
    """A callable object."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self.function(*inputs, **named)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    yield


class Norm(nn.Module):
    """A class put in place of a norm's."""


def compiled_from_text(space: dict[str, Any]) -> Any:
    made: dict[str, Any] = {}
    exec(FORWARD, space, made)
    return made["forward"]


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*inputs: Any, **named: Any) -> Any:
        return function(*inputs, **named)

    return wrapper


class Dispatches:
    @functools.singledispatchmethod
    def act(self, value: object) -> object:
        return value


def own_table(patch: pytest.MonkeyPatch) -> None:
    """A modeling module's own table, which goes before the one that all share; with the library's own functions."""
    table = AttentionInterface()
    table["sdpa"] = modeling_gemma3.eager_attention_forward
    patch.setattr(modeling_gemma3, "ALL_ATTENTION_FUNCTIONS", table)


def put(owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


PATCHES: dict[str, Patch] = {
    f"{GEMMA}.Gemma3MLP.forward": put(modeling_gemma3.Gemma3MLP, "forward", lambda _: compiled_from_text({})),
    f"{GEMMA}.Gemma3RMSNorm.forward": put(
        modeling_gemma3.Gemma3RMSNorm, "forward", lambda _: compiled_from_text(vars(modeling_gemma3))
    ),
    f"{GEMMA}.apply_rotary_pos_emb": put(modeling_gemma3, "apply_rotary_pos_emb", Calls),
    f"{GEMMA}.repeat_kv": put(modeling_gemma3, "repeat_kv", wrapped),
    f"{GEMMA}.DynamicCache": put(modeling_gemma3, "DynamicCache", lambda _: Norm),
    "torch.matmul": put(torch, "matmul", wrapped),
    "torch.Tensor.masked_scatter": put(torch.Tensor, "masked_scatter", wrapped),
    "torch.nn.functional.linear": put(nn.functional, "linear", lambda old: functools.partial(Calls(old))),
    "transformers.loss.loss_utils.fixed_cross_entropy": put(losses, "fixed_cross_entropy", wrapped),
    "transformers.loss.loss_utils.LOSS_MAPPING[ForCausalLM]": lambda patch: patch.setitem(
        losses.LOSS_MAPPING, "ForCausalLM", wrapped(losses.ForCausalLMLoss)
    ),
    "transformers.generation.logits_process.TemperatureLogitsWarper.__call__": put(
        logits_process.TemperatureLogitsWarper, "__call__", lambda _: lambda self, ids, scores: scores
    ),
    "transformers.generation.stopping_criteria.EosTokenCriteria.__call__": put(
        stopping_criteria.EosTokenCriteria, "__call__", wrapped
    ),
    # Behind a decorator of torch's or Python's own.
    f"{GEMMA}.Gemma3MLP.__call__": lambda patch: patch.setattr(
        modeling_gemma3.Gemma3MLP,
        "__call__",
        torch.no_grad()(wrapped(modeling_gemma3.Gemma3MLP.__call__)),
        raising=False,
    ),
    f"{GEMMA}.rotate_half": put(modeling_gemma3, "rotate_half", lambda old: torch._dynamo.disable(wrapped(old))),
    f"{GEMMA}.eager_attention_forward": put(
        modeling_gemma3,
        "eager_attention_forward",
        lambda old: torch._dynamo.disable(wrapped(old), recursive=False),
    ),
    f"{GEMMA}.create_causal_mask": put(modeling_gemma3, "create_causal_mask", lambda old: quiet()(wrapped(old))),
    "transformers.generation.utils.GenerationMixin.generate": put(
        GenerationMixin, "generate", lambda old: torch.no_grad()(wrapped(old.__wrapped__))
    ),
    f"{GEMMA}.Gemma3RMSNorm._norm": put(modeling_gemma3.Gemma3RMSNorm, "_norm", lambda _: vars(Dispatches)["act"]),
    # Tables of transformers.
    "transformers.activations.ACT2FN[gelu]": lambda patch: patch.setitem(ACT2FN, "gelu", (Norm, {})),
    "transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[linear]": lambda patch: patch.setitem(
        ROPE_INIT_FUNCTIONS, "linear", wrapped(ROPE_INIT_FUNCTIONS["linear"])
    ),
    f"{GEMMA}.ALL_ATTENTION_FUNCTIONS[sdpa]": own_table,
    f"{GEMMA}.ACT2FN[silu]": lambda patch: patch.setattr(modeling_gemma3, "ACT2FN", {"silu": Norm}),
    # The library's own functions, each where another belongs.
    "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS[sdpa]": lambda patch: patch.setitem(
        ALL_ATTENTION_FUNCTIONS, "sdpa", modeling_gemma3.eager_attention_forward
    ),
    "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS[flash_attention_2]": lambda patch: patch.setitem(
        ALL_ATTENTION_FUNCTIONS, "flash_attention_2", ALL_ATTENTION_FUNCTIONS["sdpa"]
    ),
    "transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS[sdpa]": lambda patch: patch.setitem(
        ALL_MASK_ATTENTION_FUNCTIONS, "sdpa", ALL_MASK_ATTENTION_FUNCTIONS["eager"]
    ),
}


@pytest.mark.parametrize("place", PATCHES)
def test_a_patch_is_named(model: nn.Module, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    before = observe_patches(model)
    PATCHES[place](monkeypatch)
    after = observe_patches(model)
    assert set(after) - set(before) == {f"(code) {place}"}
    monkeypatch.undo()
    assert observe_patches(model) == before


def test_nothing_of_the_library_is_a_patch(model: nn.Module) -> None:
    assert observe_patches(model) == {}


def test_what_the_library_decorates_and_generates_is_its_own(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    forward = modeling_gemma3.Gemma3MLP.forward
    for decorated in (torch._dynamo.disable(forward), torch.no_grad()(forward), functools.lru_cache(forward)):
        monkeypatch.setattr(modeling_gemma3.Gemma3MLP, "forward", decorated)
        assert observe_patches(model) == {}
    compiled = torch.compile(forward, backend="eager")
    monkeypatch.setattr(modeling_gemma3.Gemma3MLP, "forward", compiled)
    assert list(observe_patches(model)) == [f"(code) {GEMMA}.Gemma3MLP.forward"]


@pytest.mark.parametrize(
    "decorator",
    [
        torch.no_grad(),
        torch.inference_mode(),
        torch.autocast("cpu"),
        torch._dynamo.disable,
        functools.partial(torch._dynamo.disable, recursive=False),
        functools.cache,
        functools.partial(functools.partial, torch.utils.checkpoint.checkpoint),
        quiet(),
        can_return_tuple,
        lambda function: torch.no_grad()(torch._dynamo.disable(function)),
    ],
)
def test_code_behind_a_decorator_of_a_librarys_is_named(decorator: Callable[[Any], Any]) -> None:
    def mine(self: Any, *inputs: Any) -> Any:
        return inputs

    assert set(foreign_code(decorator(mine))) == {f"{__name__}.{mine.__qualname__}"}
    assert list(foreign_code(decorator(modeling_gemma3.repeat_kv))) == []


def test_decorated_in_a_circle_is_said_once() -> None:
    circle = wrapped(modeling_gemma3.repeat_kv)
    circle.__wrapped__ = circle
    assert len(list(foreign_code(circle))) == 1


def test_a_patch_says_where_its_code_is() -> None:
    (said,) = foreign_code(compiled_from_text({}))
    assert said.endswith("forward, compiled from text as <string>")
    (said,) = foreign_code(wrapped(modeling_gemma3.repeat_kv))
    assert said.endswith("repeat_kv, as written in test_patches.py")
    assert list(foreign_code(Calls(print))) == [f"an object of {__name__}.Calls"]
    assert list(foreign_code(property(print, lambda *_: None)))
