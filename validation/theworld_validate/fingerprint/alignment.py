"""Weights at addresses that kernels like, before a model is run.

In: a loaded model. Out: the same model, whose parameters and buffers on the CPU begin at multiples of 64 bytes. Files
are mapped into memory, and a tensor then begins wherever it does in its file; a CPU's matrix-times-vector kernels sum
in another order at such an address (MKL's float32 with AVX2: at multiples of 4 and 8 bytes that are none of 16), so
that equal weights would give other bits after they were saved in other shards.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ALIGNMENT = 64  # bytes: of a cache line, of the widest registers, and of what torch's own allocator gives
_Span = tuple[int, int]  # addresses: first byte, and the one after the last


def align_weights(model: Any) -> None:
    """Move unaligned parameters and buffers to aligned memory; they stay the same objects with the same values.

    Tensors that share all their memory go on sharing it. Those that overlap in part, as views of one flat buffer do,
    stay where they are, as do those of classes of their own: to move them would change what they are. They are not
    moved back, so that what a forward changes in place is still seen afterwards.
    """
    copies: dict[Any, torch.Tensor] = {}
    for tensor in _unaligned(model):
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key not in copies:
            copies[key] = _copy(tensor)
        tensor.data = copies[key]


def _copy(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    copy.copy_(tensor.detach())
    return copy


def _unaligned(model: Any) -> "list[torch.Tensor]":
    """Plain tensors on the CPU that begin between multiples of `ALIGNMENT`, and overlap with no other in part."""
    import torch

    plain = (torch.Tensor, torch.nn.Parameter)
    tensors = [
        tensor for tensor in (*model.parameters(), *model.buffers()) if type(tensor) in plain and _is_in_memory(tensor)
    ]
    spans = sorted({_span(tensor) for tensor in tensors})
    overlapping: set[_Span] = set()
    last: _Span | None = None  # of those before, the one that reaches furthest
    for span in spans:
        if last is not None and span[0] < last[1]:
            overlapping |= {last, span}
        if last is None or span[1] > last[1]:
            last = span
    return [t for t in tensors if t.data_ptr() % ALIGNMENT and _span(t) not in overlapping]


def _is_in_memory(tensor: "torch.Tensor") -> bool:
    import torch

    is_strided = tensor.device.type == "cpu" and tensor.layout is torch.strided
    return is_strided and tensor.numel() > 0 and not tensor.is_inference()


def _span(tensor: "torch.Tensor") -> _Span:
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + reach * tensor.element_size()
