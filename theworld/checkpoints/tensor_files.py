"""Writing safetensors files, and digesting what they are named after.

In: tensors and a path. Out: a file, or an `OSError` that names it; the bytes of a tensor.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def write_tensors(tensors: dict[str, "torch.Tensor"], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; a full disk is an `OSError`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


def publish_tensors(tensors: dict[str, "torch.Tensor"], path: Path) -> None:
    """Write a safetensors file that appears whole or not at all, whoever else writes it at the same time."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, suffix=".writing")
    os.close(descriptor)
    try:
        write_tensors(tensors, Path(scratch))
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def bytes_of(tensor: "torch.Tensor") -> memoryview:
    """A tensor's values as they lie in memory, for a digest."""
    import torch

    array: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return memoryview(array)


def update_digest(digest: Any, tensor: "torch.Tensor") -> None:
    """Add a tensor's shape, dtype and values to a digest."""
    digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
    digest.update(bytes_of(tensor))
