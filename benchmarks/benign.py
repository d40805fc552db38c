"""Ways to compute the same model otherwise, that nobody would call a bug: what a referee must call equivalent.

In: a loaded model, or a subject. Out: the model, computed by other kernels, in other pieces, or in another order.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from theworld_validate.faults.base import text_model


@dataclass(frozen=True, kw_only=True)
class Benign:
    """One way; `load` is given the checkpoint, what loads it, and a folder to write to."""

    name: str
    inject: Callable[[Any], object] = lambda model: None
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    load: Callable[[str, Callable[..., Any], Path], Any] | None = None


BENIGN: dict[str, Benign] = {}


def benign(how: str = "inject") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put the decorated function into the table under its own name."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__.replace("_", "-")
        entry: dict[str, Any] = {how: function}
        BENIGN[name] = Benign(name=name, **entry)
        return function

    return register


def recompute(model: Any, kind: type, forward: Callable[..., Any], *, name: str) -> int:
    """Give every module of a class another class with another forward; return how many there were."""
    modules = [module for module in model.modules() if type(module).__name__ == kind.__name__]
    for module in modules:
        module.__class__ = type(name, (type(module),), {"forward": functools.wraps(type(module).forward)(forward)})
    assert modules, f"no {kind.__name__} in the model"
    return len(modules)


def kind_named(model: Any, name: str) -> type:
    """The class of this name among a model's modules."""
    return next(type(module) for module in model.modules() if type(module).__name__ == name)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """One dtype up."""
    return tensor.to(torch.float64 if tensor.dtype == torch.float32 else torch.float32)


@benign("load")
def eager_attention(checkpoint: str, load: Callable[..., Any], _folder: Path) -> Any:
    return load(checkpoint, attn_implementation="eager")


@benign()
def eager_in_text(model: Any) -> None:
    model.set_attn_implementation({"text_config": "eager"})


@benign()
def eager_in_vision(model: Any) -> None:
    model.set_attn_implementation({"vision_config": "eager"})


@benign("around")
def sdpa_math_kernel() -> Any:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.MATH])


@benign("around")
@contextlib.contextmanager
def attention_in_blocks() -> Iterator[None]:
    """Queries in blocks of 48, as a kernel that saves memory takes them."""
    whole = torch.nn.functional.scaled_dot_product_attention

    def in_blocks(query: Any, key: Any, value: Any, attn_mask: Any = None, **kwargs: Any) -> Any:
        if attn_mask is None or kwargs.get("is_causal"):
            return whole(query, key, value, attn_mask=attn_mask, **kwargs)
        mask = attn_mask.expand(*attn_mask.shape[:-2], query.shape[-2], attn_mask.shape[-1])
        blocks = zip(query.split(48, dim=-2), mask.split(48, dim=-2), strict=True)
        return torch.cat([whole(q, key, value, attn_mask=m, **kwargs) for q, m in blocks], dim=-2)

    with mock.patch("torch.nn.functional.scaled_dot_product_attention", in_blocks):
        yield


def _threads(count: int) -> Callable[[], Any]:
    @contextlib.contextmanager
    def around() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return around


for _count in (2, 3):
    BENIGN[f"{_count}-threads"] = Benign(name=f"{_count}-threads", around=_threads(_count))


@benign("around")
def mkldnn_off() -> Any:
    return torch.backends.mkldnn.flags(enabled=False)


@benign("around")
@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@benign("around")
@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@benign("around")
@contextlib.contextmanager
def lower_matmul_precision() -> Iterator[None]:
    """As TF32 is switched on; a CPU without such units computes as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _split_k(parts: int) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        """Sums in pieces, each rounded, as split-K kernels of small GPUs do."""
        size = -(-x.shape[-1] // parts)
        pieces = zip(x.split(size, dim=-1), self.weight.split(size, dim=1), strict=True)
        made = sum(wide(torch.nn.functional.linear(a, b)) for a, b in pieces)
        assert isinstance(made, torch.Tensor)
        return (made if self.bias is None else made + wide(self.bias)).to(x.dtype)

    return forward


@benign()
def sums_in_two_pieces(model: Any) -> None:
    recompute(model, nn.Linear, _split_k(2), name="InTwoPieces")


@benign()
def sums_in_five_pieces(model: Any) -> None:
    recompute(model, nn.Linear, _split_k(5), name="InFivePieces")


@benign()
def products_in_a_wider_dtype(model: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else wide(self.bias)
        return torch.nn.functional.linear(wide(x), wide(self.weight), bias).to(x.dtype)

    recompute(model, nn.Linear, forward, name="Wider")


@benign()
def tokens_in_two_chunks(model: Any) -> None:
    """Products of half the rows at a time, as chunked prefill and sharded sequences give."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        halves = x.tensor_split(2, dim=-2)
        return torch.cat([torch.nn.functional.linear(half, self.weight, self.bias) for half in halves], dim=-2)

    recompute(model, nn.Linear, forward, name="InChunks")


@benign()
def one_token_at_a_time(model: Any) -> None:
    """Products of one row at a time, as decoding through a cache gives."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        rows = [torch.nn.functional.linear(row, self.weight, self.bias) for row in x.split(1, dim=-2)]
        return torch.cat(rows, dim=-2)

    recompute(model, nn.Linear, forward, name="OneAtATime")


@benign()
def rows_padded_beside(model: Any) -> None:
    """Five rows more of zeros, cut off again, as kernels pad to a multiple."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (0, 0, 0, 5))
        return torch.nn.functional.linear(padded, self.weight, self.bias)[..., : x.shape[-2], :].contiguous()

    recompute(model, nn.Linear, forward, name="Padded")


@benign()
def columns_padded(model: Any) -> None:
    """A longer inner dimension, of zeros."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        x, weight = (torch.nn.functional.pad(value, (3, 9)) for value in (x, self.weight))
        return torch.nn.functional.linear(x, weight, self.bias)

    recompute(model, nn.Linear, forward, name="Deeper")


@benign()
def batch_of_three(model: Any) -> None:
    """Each product in a batch three times as large."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(torch.cat([x, x.flip(0), x]), self.weight, self.bias)[: x.shape[0]]

    recompute(model, nn.Linear, forward, name="Tripled")


@benign()
def transposed_weights(model: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        made = x @ self.weight.t().contiguous()
        return made if self.bias is None else made + self.bias

    recompute(model, nn.Linear, forward, name="Transposed")


@benign()
def gate_and_up_fused(model: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        both = torch.nn.functional.linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight]))
        gate, up = both.chunk(2, dim=-1)
        return self.down_proj(self.act_fn(gate) * up)

    recompute(model, kind_named(model, "Gemma3MLP"), forward, name="Fused")


@benign()
def norms_in_float64(model: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        values = x.double()
        normed = values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + self.eps)
        return (normed * (1.0 + self.weight.double())).to(x.dtype)

    recompute(model, kind_named(model, "Gemma3RMSNorm"), forward, name="Wider")


@benign()
def norms_by_division(model: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        values = x.float()
        normed = values / (values.square().sum(-1, keepdim=True) / values.shape[-1] + self.eps).sqrt()
        return torch.addcmul(normed, normed, self.weight.float()).to(x.dtype)

    recompute(model, kind_named(model, "Gemma3RMSNorm"), forward, name="Divided")


@benign()
def layer_norms_by_hand(model: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        values = wide(x)
        centred = values - values.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return (normed * wide(self.weight) + wide(self.bias)).to(x.dtype)

    recompute(model, nn.LayerNorm, forward, name="ByHand")


@benign()
def activation_in_a_wider_dtype(model: Any) -> None:
    def forward(_self: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(wide(x), approximate="tanh").to(x.dtype)

    recompute(model, type(text_model(model).layers[0].mlp.act_fn), forward, name="Wider")


@benign()
def compiled_mlp(model: Any) -> None:
    layer = text_model(model).layers[1]
    layer.mlp = torch.compile(layer.mlp, backend="eager")


@benign()
def compiled_by_inductor(model: Any) -> None:
    for layer in text_model(model).layers[:2]:
        layer.mlp.compile(dynamic=True)


@benign()
def vision_in_a_larger_batch(model: Any) -> None:
    def forward(self: Any, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        output = super(type(self), self).forward(torch.cat([pixel_values, pixel_values]), **kwargs)
        output.last_hidden_state = output.last_hidden_state[: pixel_values.shape[0]]
        return output

    recompute(model, type(model.model.vision_tower), forward, name="Doubled")


@benign()
def channels_last(model: Any) -> None:
    model.model.vision_tower.to(memory_format=torch.channels_last)


@benign()
def patches_as_products(model: Any) -> None:
    """The patches' convolution as one product, as libraries without convolutions have it."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        side = self.kernel_size[0]
        patches = torch.nn.functional.unfold(x, side, stride=side).transpose(1, 2)
        made = torch.nn.functional.linear(patches, self.weight.flatten(1), self.bias).transpose(1, 2)
        return made.reshape(batch, -1, height // side, width // side)

    recompute(model, nn.Conv2d, forward, name="AsProducts")


@benign("load")
def resharded(checkpoint: str, load: Callable[..., Any], folder: Path) -> Any:
    load(checkpoint).save_pretrained(folder, max_shard_size="200KB")
    return load(str(folder))


@benign("load")
def eager_and_products_in_pieces(checkpoint: str, load: Callable[..., Any], _folder: Path) -> Any:
    model = load(checkpoint, attn_implementation="eager")
    sums_in_two_pieces(model)
    norms_by_division(model)
    return model


@benign("load")
def eager_and_wider_everything(checkpoint: str, load: Callable[..., Any], _folder: Path) -> Any:
    model = load(checkpoint, attn_implementation="eager")
    products_in_a_wider_dtype(model)
    norms_in_float64(model)
    activation_in_a_wider_dtype(model)
    return model
