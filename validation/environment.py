"""Where a command runs: versions and devices, as JSON scalars."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("theworld", "torch", "transformers", "diffusers", "accelerate", "safetensors", "numpy")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_environment() -> dict[str, Any]:
    """Describe interpreter, packages, processor and GPU; None for what is not there."""
    import torch

    has_cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "cuda": torch.version.cuda if has_cuda else None,
        "gpu": torch.cuda.get_device_name(0) if has_cuda else None,
        "gpu_count": torch.cuda.device_count() if has_cuda else 0,
    }
