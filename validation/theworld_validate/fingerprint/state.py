"""What a model is, before it is asked anything: config, modules, parameters, buffers, globals.

In: a loaded model. Out: five layers of a fingerprint. Nothing is run and nothing is changed.
"""

import hashlib
import os
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Fingerprint, Layer, Observation
from theworld_validate.fingerprint.digest import DigestQueue

if TYPE_CHECKING:
    import torch
    from torch import nn

# Who the model says it is: a subclass's own config differs from its base's in these, and in these alone.
IDENTITY_FIELDS = ("architectures", "model_type", "_name_or_path", "transformers_version", "auto_map")

# Observed otherwise: `loss_type` is cut from the class's name, and None and the base's own choose the same function.
_DERIVED = ("training", "loss_type")

_HOOK_DICTIONARIES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def fingerprint_state(model: "nn.Module") -> Fingerprint:
    """Observe config, modules, parameters, buffers and globals."""
    queue = DigestQueue(max_held_bytes=None)
    parameters, buffers = _parameters(model, queue), _buffers(model, queue)
    queue.finish()
    return Fingerprint(
        layers={
            "config": _config(model),
            "modules": _modules(model),
            "parameters": parameters,
            "buffers": buffers,
            "globals": observe_globals(),
        },
        num_bytes={
            "parameters": _total_bytes(dict(model.named_parameters()).values()),
            "buffers": _total_bytes(dict(model.named_buffers()).values()),
        },
    )


def fingerprint_buffers(model: "nn.Module") -> Layer:
    """Observe the buffers alone."""
    queue = DigestQueue(max_held_bytes=None)
    layer = _buffers(model, queue)
    queue.finish()
    return layer


def _total_bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _flatten(prefix: str, value: Any, layer: Layer) -> None:
    if isinstance(value, dict) and value:
        for key in sorted(value, key=str):
            _flatten(f"{prefix}.{key}", value[key], layer)
    else:
        layer[prefix] = {"value": value if isinstance(value, (bool, int, float, str, type(None))) else str(value)}


def _config(model: Any) -> Layer:
    layer: Layer = {}
    for name in ("config", "generation_config"):
        if getattr(model, name, None) is not None:
            values = getattr(model, name).to_dict()
            _flatten(name, {key: value for key, value in values.items() if key not in IDENTITY_FIELDS}, layer)
    return layer


def _modules(model: "nn.Module") -> Layer:
    layer: Layer = {}
    for name, module in model.named_modules():
        seen: Observation = {
            "training": module.training,
            "hooks": sum(len(getattr(module, dictionary, {})) for dictionary in _HOOK_DICTIONARIES)
            + int(hasattr(module, "_hf_hook")),
            # Methods put on the instance, such as a forward that somebody wrapped.
            "overrides": ", ".join(sorted(key for key, value in vars(module).items() if callable_override(key, value))),
        }
        for key, value in vars(module).items():
            if key not in _DERIVED and not key.startswith("_") and isinstance(value, (bool, int, float, str)):
                seen[f"attribute.{key}"] = value
        if name:  # the root's class is the subject's own
            seen["class"] = f"{type(module).__module__}.{type(module).__qualname__}"
        if (config := getattr(module, "config", None)) is not None:
            seen["attn_implementation"] = getattr(config, "_attn_implementation", None)
            seen["loss_function"] = getattr(getattr(module, "loss_function", None), "__name__", None)
        layer[name or "(model)"] = seen
    return layer


def callable_override(key: str, value: Any) -> bool:
    """Whether an instance attribute stands in for a method of its class."""
    return callable(value) and key in ("forward", "generate", "prepare_inputs_for_generation", "save_pretrained")


def _tensor(tensor: "torch.Tensor", queue: DigestQueue) -> Observation:
    seen: Observation = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": str(list(tensor.shape)),
        "device": str(tensor.device),
    }
    queue.add(tensor, seen)
    return seen


def _parameters(model: "nn.Module", queue: DigestQueue) -> Layer:
    """Observe parameters; of tied ones the later names say which they are tied to, and have no digest."""
    layer: Layer = {}
    first_name_of: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tied_to = first_name_of.setdefault(id(parameter), name)
        if tied_to != name:
            layer[name] = {"tied_to": tied_to}
        else:
            layer[name] = _tensor(parameter, queue)
            hooks = len(parameter._backward_hooks or ()) + len(
                getattr(parameter, "_post_accumulate_grad_hooks", None) or ()
            )
            layer[name].update(requires_grad=parameter.requires_grad, tied_to=None, hooks=hooks)
    return layer


def _buffers(model: "nn.Module", queue: DigestQueue) -> Layer:
    layer: Layer = {}
    for module_name, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                persistent = name not in module._non_persistent_buffers_set
                layer[f"{module_name}.{name}".lstrip(".")] = _tensor(buffer, queue)
                layer[f"{module_name}.{name}".lstrip(".")]["persistent"] = persistent
    return layer


def observe_globals() -> Layer:
    """Observe torch's global state: modes, precision, determinism, threads and random state."""
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
