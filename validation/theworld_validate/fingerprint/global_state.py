"""Torch's global state: modes, precision, determinism, threads and random state.

In: nothing. Out: the section "globals".
"""

import hashlib
import os
from typing import Any

from theworld_validate.documents.observations import Section


def observe_globals() -> Section:
    """Observe torch's global state."""
    import torch

    values: dict[str, Any] = {
        "grad_enabled": torch.is_grad_enabled(),
        "inference_mode": torch.is_inference_mode_enabled(),
        "autocast_cpu": torch.is_autocast_enabled("cpu"),
        "autocast_cuda": torch.is_autocast_enabled("cuda"),
        "default_dtype": str(torch.get_default_dtype()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cuda_matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cuda_bf16_reduced_precision": str(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
        "num_threads": torch.get_num_threads(),
        "rng_state_cpu": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:32],
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        values["rng_state_cuda"] = hashlib.sha256(torch.cuda.get_rng_state().numpy().tobytes()).hexdigest()[:32]
    return {name: {"value": value} for name, value in values.items()}
