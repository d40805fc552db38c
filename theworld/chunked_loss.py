"""The language-model loss in pieces, so that the logits of a whole prompt never exist at once.

In: hidden states, the head's weight and labels. Out: the mean cross-entropy, as transformers' ForCausalLMLoss has
it, and gradients, within rounding. At 262,147 tokens of vocabulary the float32 logits are most of a training step.
"""

# N tokens of the batch, D hidden size, V vocabulary

import importlib.util

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

IGNORED_LABEL = -100
BACKENDS = ("plain", "torch", "liger")


def available_backends() -> tuple[str, ...]:
    """The backends that this environment has: ours always, torch's from 2.13 on, Liger's where it is installed."""
    has = {
        "plain": True,
        "torch": hasattr(functional, "linear_cross_entropy"),
        "liger": importlib.util.find_spec("liger_kernel") is not None and torch.cuda.is_available(),
    }
    return tuple(name for name in BACKENDS if has[name])


def best_backend() -> str:
    """The backend that `auto` means here: Liger's fused kernel, torch's own, or plain pieces."""
    return available_backends()[-1]


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
    if backend not in available_backends():
        raise ValueError(f"no loss backend {backend!r} here; there are {', '.join(available_backends())}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
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
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    for start in range(0, hidden_ND.shape[0], chunk_size):
        piece = slice(start, start + chunk_size)
        total = total + checkpoint(_piece, hidden_ND[piece], weight_VD, labels_N[piece], use_reentrant=False)
    return total / count


def _piece(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """The sum over one piece; its logits live only inside, and are made again in the backward pass."""
    logits_NV = functional.linear(hidden_ND, weight_VD).float()
    return functional.cross_entropy(logits_NV, labels_N, ignore_index=IGNORED_LABEL, reduction="sum")


def shift_labels(labels_BL: torch.Tensor) -> torch.Tensor:
    """Labels of the next token, flat: (B * L,); the last of each row counts for nothing."""
    return functional.pad(labels_BL, (0, 1), value=IGNORED_LABEL)[..., 1:].reshape(-1)
