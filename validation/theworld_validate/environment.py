"""Where a command runs: versions and devices."""

import hashlib
import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version

from theworld_validate.results import Environment

_PACKAGES = ("theworld", "torch", "transformers", "diffusers", "accelerate", "safetensors", "numpy")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str | None:
    """The processor's name, as Linux has it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), None)
    except OSError:
        return platform.processor() or None


_CALIBRATION_RUNS = 5
_CALIBRATION_BYTES = 16 << 20


def calibrate() -> float:
    """Seconds of a fixed piece of work in this process, the median of a few runs: hashing, single-threaded."""
    data = bytes(_CALIBRATION_BYTES)
    times = []
    for _ in range(_CALIBRATION_RUNS):
        started = time.perf_counter()
        hashlib.blake2b(data).digest()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def usable_cores() -> int:
    """How many cores this process may use: fewer than the machine has where a container or `taskset` says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> Environment:
    """Describe interpreter, packages and processor, without torch: what the judge knows by itself."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        machine=platform.machine(),
        processor=_processor(),
        cpu_count=os.cpu_count(),
        packages={package: _version(package) for package in _PACKAGES},
    )


def describe_environment() -> Environment:
    """Describe interpreter, packages, processor and GPU, from inside of a worker."""
    from dataclasses import replace

    import torch

    has_cuda = torch.cuda.is_available()
    return replace(
        describe_machine(),
        torch_threads=torch.get_num_threads(),
        cuda=torch.version.cuda if has_cuda else None,
        gpu=torch.cuda.get_device_name(0) if has_cuda else None,
        gpu_count=torch.cuda.device_count() if has_cuda else 0,
    )
