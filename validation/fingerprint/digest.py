"""The digest of a tensor: of every bit, in order, with its dtype and shape.

In: a tensor on any device. Out: 128 bits in hexadecimal. Two tensors with one digest are equal bit for
bit but for a chance of about 2**-128 a pair: -0.0 and 0.0 differ, and equal NaNs are equal.
"""

from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    import torch

ALGORITHM = "xxh3-128"


def digest_tensor(tensor: "torch.Tensor") -> str:
    """Digest a tensor's dtype, shape and bytes (XXH3, 128 bits; no copy where it lies contiguous on the CPU)."""
    import torch

    data = tensor.detach()
    if data.is_meta:
        raise ValueError("a tensor on the meta device has no bits to digest")
    data = data.cpu().contiguous().view(-1).view(torch.uint8)
    hasher = xxhash.xxh3_128(describe_shape(tensor).encode())
    array: Any = data.numpy()
    hasher.update(array)
    return hasher.hexdigest()


def describe_shape(tensor: "torch.Tensor") -> str:
    """Write dtype and shape: bfloat16[2, 3]."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
