"""Torch's global state: modes, hooks, precision, determinism, kernels, threads and random state.

In: nothing. Out: the section "globals". What a name says of a mode, a hook or a flag is None, 0 or torch's default
where nothing was switched on.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from typing import Any

from theworld_validate.documents.observations import Section

# Called for every module of the process, or for every module, buffer or parameter that is registered.
_HOOKS_OF_EVERY_MODULE = (
    "forward_pre_hooks",
    "forward_hooks",
    "backward_pre_hooks",
    "backward_hooks",
    "module_registration_hooks",
    "buffer_registration_hooks",
    "parameter_registration_hooks",
)
# Where torch.backends has an `fp32_precision`; the first is what the others are without one of their own.
_FLOAT32_PRECISIONS = (
    "",
    "cuda.matmul",
    "cudnn",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)


def observe_globals() -> Section:
    """Observe torch's global state."""
    import torch

    values: dict[str, Any] = {
        "grad_enabled": torch.is_grad_enabled(),
        "inference_mode": torch.is_inference_mode_enabled(),
        "anomaly_mode": torch.is_anomaly_enabled(),
        "autocast_cpu": torch.is_autocast_enabled("cpu"),
        "autocast_cuda": torch.is_autocast_enabled("cuda"),
        "autocast_cpu_dtype": str(torch.get_autocast_dtype("cpu")),
        "autocast_cuda_dtype": str(torch.get_autocast_dtype("cuda")),
        "autocast_cache": torch.is_autocast_cache_enabled(),
        "default_dtype": str(torch.get_default_dtype()),
        "default_device": str(torch.get_default_device()),
        "float32_matmul_precision": _read(torch.get_float32_matmul_precision),
        # Of numbers, not of a flag: torch has a setter alone. Half of the least normal number is a denormal one.
        "flush_denormal": sys.float_info.min / 2 == 0.0,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_enabled": torch.backends.cudnn.enabled,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": _read(lambda: torch.backends.cudnn.allow_tf32),
        "cuda_matmul_allow_tf32": _read(lambda: torch.backends.cuda.matmul.allow_tf32),
        **_float32_precisions(),
        "cuda_bf16_reduced_precision": str(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
        "cuda_fp16_reduced_precision": str(torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction),
        "flash_sdp": torch.backends.cuda.flash_sdp_enabled(),
        "mem_efficient_sdp": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math_sdp": torch.backends.cuda.math_sdp_enabled(),
        "cudnn_sdp": torch.backends.cuda.cudnn_sdp_enabled(),
        "num_threads": torch.get_num_threads(),
        "rng_state_cpu": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:32],
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        **_modes_left_on(),
        **_hooks_left_behind(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        values["rng_state_cuda"] = hashlib.sha256(torch.cuda.get_rng_state().numpy().tobytes()).hexdigest()[:32]
    return {name: {"value": value} for name, value in values.items()}


def _read(read: Callable[[], Any]) -> Any:
    """A flag; or that it cannot be read: torch raises for those that `fp32_precision` has been set beside."""
    try:
        return read()
    except RuntimeError as error:
        return f"cannot be read: {type(error).__name__}"


def _float32_precisions() -> dict[str, str]:
    """What float32 is computed in, by backend and operator; of those that this torch has."""
    import torch

    found: dict[str, str] = {}
    for place in _FLOAT32_PRECISIONS:
        holder: Any = torch.backends
        for name in filter(None, place.split(".")):
            holder = getattr(holder, name, None)
        value = getattr(holder, "fp32_precision", None)
        if value is not None:  # "none" is what nobody set: torch computes it as "ieee"
            found["_".join(["fp32_precision", *filter(None, place.split("."))])] = "ieee" if value == "none" else value
    return found


def _modes_left_on() -> dict[str, str | None]:
    """Modes that see every function or kernel call, by their classes, the outermost first."""
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    stacks = {
        "function_modes": _get_current_function_mode_stack(),
        "dispatch_modes": _get_current_dispatch_mode_stack(),
    }
    return {name: ", ".join(type(mode).__qualname__ for mode in stack) or None for name, stack in stacks.items()}


def _hooks_left_behind() -> dict[str, Any]:
    import torch
    from torch.nn.modules import module

    counts = {f"global_{name}": len(getattr(module, f"_global_{name}", ())) for name in _HOOKS_OF_EVERY_MODULE}
    return {**counts, "saved_tensors_hooks": torch._C._autograd._top_saved_tensors_default_hooks(True) is not None}
