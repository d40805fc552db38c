"""Writing safetensors files.

In: tensors and a path. Out: a file, or an `OSError` that names it.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

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
