"""Where CUDA takes another way than the CPU: attention kernels, and memory that kernels take for themselves.

In: the model code that runs on tensors without data. Out: the same, with attention as cuDNN does it on Hopper, and
the scratch of a few operators. Sizes come from formulas checked against an H200's allocator (torch 2.11).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.nn import functional

from theworld_validate.memory.architectures import HOPPER

CUBLAS_WORKSPACE_BYTES = HOPPER.workspace_bytes  # one for the thread of the forward pass, one for the backward's
_MOST_HEAD_DIM = 256
_SMALL = 256  # cuDNN's least workspace


class _FusedAttention(torch.autograd.Function):
    """What a fused attention kernel allocates: output, logsumexp, random state; backward: three gradients, scratch."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        batch, heads, length, _ = query.shape
        saved = [query, key, value]
        if mask is not None:
            # A boolean mask becomes an additive one, in each layer anew, and is kept for the backward pass.
            is_boolean = mask.dtype == torch.bool
            saved.append(torch.empty(mask.shape, dtype=query.dtype, device=query.device) if is_boolean else mask)
        seeds = [torch.empty(1, dtype=torch.int64, device=query.device) for _ in range(2)]
        # Zeros, so that where tensors have data what follows is finite.
        out = query.new_zeros((batch, length, heads, value.shape[-1])).transpose(1, 2)
        logsumexp = torch.empty((batch, heads, length, 1), dtype=torch.float32, device=query.device)
        ctx.save_for_backward(*saved, out, logsumexp, *seeds)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        query, key, value, *_rest = ctx.saved_tensors
        gradients = [torch.empty_like(tensor) for tensor in (query, key, value)]
        batch, heads, length, head_dim = query.shape
        torch.empty(attention_scratch_bytes(batch * heads, length, head_dim), dtype=torch.uint8, device=query.device)
        return (*gradients, None)


def attention_scratch_bytes(num_heads: int, length: int, head_dim: int) -> int:
    """What cuDNN's attention backward takes for itself.

    The gradient of the queries and the row sums, both in float32. For head dimensions that are no multiple of 64
    cuDNN pads: the factor is the one measured for 72 (Gemma's vision tower) on an H200.
    """
    if head_dim % 64:
        return round(2118.375 * num_heads) * length  # whole bytes of each position: a length's sizes grow evenly
    return 4 * num_heads * length * head_dim + 4 * num_heads * length + _SMALL


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """`scaled_dot_product_attention` with the memory of CUDA's choice."""
    if attn_mask is not None and attn_mask.stride(-1) != 1:
        # No fused kernel reads such a mask, as T5's bias is until transformers 5.23: PyTorch's own steps, in float32.
        out, _ = torch._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return out
    if torch.is_autocast_enabled("cpu"):  # which knows nothing of this function, and CUDA's casts for attention
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    return _FusedAttention.apply(query, key, value, attn_mask)


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:  # noqa: A002, ARG001
    """`dropout` with the memory of CUDA's fused kernel: a mask of a byte an element is kept, and no noise."""
    if not training or p == 0:
        return input
    return torch.native_dropout(input, p, training)[0]


@contextmanager
def attention_as_on_cuda() -> Iterator[None]:
    """Have the model's attention and dropout allocate as CUDA's fused kernels do."""
    with (
        mock.patch.object(functional, "scaled_dot_product_attention", _attention),
        mock.patch.object(functional, "dropout", _dropout),
    ):
        yield


def scratch_bytes(func: Any, args: tuple[Any, ...], _out: Any) -> int:
    """What a CUDA kernel takes for itself during one call, where that is large."""
    name = func._schema.name
    if name in ("aten::native_layer_norm", "aten::native_layer_norm_backward"):
        copied = [tensor for tensor in args[:2] if isinstance(tensor, torch.Tensor) and not tensor.is_contiguous()]
        return sum(tensor.numel() * tensor.element_size() for tensor in copied)
    if name == "aten::_safe_softmax":
        return args[0].numel()  # which scores are -inf
    if name == "aten::masked_scatter":
        # The mask, expanded, and its running sum in int64.
        return args[0].numel() * (1 + 8)
    return 0
