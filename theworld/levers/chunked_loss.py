"""The language-model loss in pieces, so that the logits of a whole prompt never exist at once.

In: hidden states, the head's weight and labels. Out: the mean cross-entropy, as transformers' ForCausalLMLoss has
it, and gradients, within rounding. At 262,147 tokens of vocabulary the float32 logits are most of a training step.
"""

# N tokens of the batch, D hidden size, V vocabulary

import importlib.util
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

IGNORED_LABEL = -100
_ROW_MULTIPLE = 8  # elements: 16 bytes in bfloat16
BACKENDS = ("plain", "torch", "liger")


def available_backends() -> tuple[str, ...]:
    """The backends that this environment has: ours always, torch's from 2.13 on, Liger's where it is installed."""
    has = {
        "plain": True,
        "torch": hasattr(functional, "linear_cross_entropy"),
        "liger": importlib.util.find_spec("liger_kernel") is not None and torch.cuda.is_available(),
    }
    return tuple(name for name in BACKENDS if has[name])


def check_chunks(chunk_size: int, backend: str) -> None:
    """Raise a ValueError for a backend that is not there, or a chunk size below 1."""
    if backend not in available_backends():
        raise ValueError(f"no loss backend {backend!r} here; there are {', '.join(available_backends())}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")


def chunked_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    chunk_size: int = 256,
    num_items: torch.Tensor | int | None = None,
    backend: str = "plain",
) -> torch.Tensor:
    """Mean cross-entropy of a linear head, a piece of the tokens at a time.

    Args:
        hidden_ND: (N, D), floating point.
        weight_VD: (V, D), the head's weight; it has no bias.
        labels_N: (N,), int64; already shifted; `IGNORED_LABEL` is left out.
        chunk_size: tokens a piece.
        num_items: what the sum is divided by; the number of labels that count if None.
        backend: one of `available_backends()`.

    Returns:
        A scalar, float32 ("plain"), or as the backend gives it.

    Raises:
        ValueError: for a backend that is not there, or a chunk size below 1.
    """
    check_chunks(chunk_size, backend)
    count = num_items if num_items is not None else (labels_N != IGNORED_LABEL).sum()
    if backend == "torch":
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk_size)
        arguments = {"reduction": "sum", "ignore_index": IGNORED_LABEL, "options": options}
        return functional.linear_cross_entropy(hidden_ND, weight_VD, labels_N, **arguments) / count
    if backend == "liger":
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        fused = liger_fused_linear_cross_entropy(
            hidden_ND, weight_VD, labels_N, ignore_index=IGNORED_LABEL, reduction="sum"
        )
        return (fused[0] if isinstance(fused, tuple) else fused) / count
    device_type = hidden_ND.device.type
    is_cast = torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type) if is_cast else hidden_ND.dtype
    return _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, labels_N, chunk_size, dtype) / count


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The sum over all pieces; each one's gradients are taken while its logits are there, and only scaled later.

    So no logits are made twice. Their rows are padded to a multiple of 16 bytes: the vocabulary is odd, and matrix
    products of rows that lie anyhow are slow on a GPU.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Any, weight_VD: Any, labels_N: Any, chunk_size: int, dtype: torch.dtype
    ) -> torch.Tensor:
        learns_hidden, learns_weight = ctx.needs_input_grad[:2]
        hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
        hidden_grad = torch.empty_like(hidden) if learns_hidden else None
        weight_grad = torch.zeros_like(weight) if learns_weight else None
        total = hidden.new_zeros((), dtype=torch.float32)
        vocabulary = weight.shape[0]
        row = -(-vocabulary // _ROW_MULTIPLE) * _ROW_MULTIPLE
        for start in range(0, hidden.shape[0], chunk_size):
            piece = slice(start, start + chunk_size)
            labels_N1 = labels_N[piece, None]
            logits_NV = hidden.new_empty((labels_N1.shape[0], row))[:, :vocabulary]
            torch.mm(hidden[piece], weight.T, out=logits_NV)
            total = total + _replace_with_gradient(logits_NV, labels_N1)
            if hidden_grad is not None:
                torch.mm(logits_NV, weight, out=hidden_grad[piece])
            if weight_grad is not None:
                weight_grad.addmm_(logits_NV.T, hidden[piece])
        ctx.save_for_backward(hidden_grad, weight_grad)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyrefly: ignore[bad-override]: the decorator hides names
        (total_grad,) = grad_outputs
        scaled = [
            None if grad is None else (grad * total_grad).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None)


def _replace_with_gradient(logits_NV: torch.Tensor, labels_N1: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy's sum over one piece; put its gradient, softmax less the target's one, in its place.

    All in float32, rounded once where it is written. Each line that names NV goes over 67 million numbers at 256 rows
    of Gemma's vocabulary: that is what a piece costs besides its matrix products.
    """
    is_target_N1 = labels_N1 != IGNORED_LABEL
    labels_N1 = labels_N1.clamp(min=0)
    scores_NV = logits_NV - logits_NV.amax(1, keepdim=True).float()
    target_N1 = scores_NV.gather(1, labels_N1)
    norm_N1 = scores_NV.exp_().sum(1, keepdim=True)
    scores_NV.scatter_(1, labels_N1, scores_NV.gather(1, labels_N1) - norm_N1)
    torch.mul(scores_NV, is_target_N1 / norm_N1, out=logits_NV)
    return ((norm_N1.log() - target_N1) * is_target_N1).sum()


def shift_labels(labels_BL: torch.Tensor) -> torch.Tensor:
    """Labels of the next token, flat: (B * L,); the last of each row counts for nothing."""
    return functional.pad(labels_BL, (0, 1), value=IGNORED_LABEL)[..., 1:].reshape(-1)


def rows_that_count(labels_N: torch.Tensor) -> torch.Tensor:
    """Where there is a label: (R,) int64. The head need not see the others: placeholders are most of a prompt.

    On CUDA this waits for what is queued, so ask before the model is called.
    """
    return (labels_N != IGNORED_LABEL).nonzero().squeeze(1)
