"""What a model's modules are: class, mode, hooks, methods put on an instance, and what they compute with.

In: a loaded model. Out: the section "modules". Nothing is run and nothing is changed.
"""

import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Observation, Section
from theworld_validate.fingerprint.capturing import is_capturing_hook
from theworld_validate.fingerprint.patches import observe_patches
from theworld_validate.fingerprint.scalars import clean_text, to_scalar
from theworld_validate.fingerprint.tree import iterate_buffers, iterate_cycles, iterate_modules, iterate_parameters
from theworld_validate.subjects.wrappers import Wrapped

if TYPE_CHECKING:
    from torch import nn

WRAPPER = "(wrapper)"  # where a section says what lies around the model
ROOT = "(model)"

# Observed otherwise: `loss_type` is cut from the class's name, and None and the base's own choose the same function.
# `name_or_path` says where the model was loaded from, which is no property of it.
_NOT_ITS_OWN = ("training", "loss_type", "name_or_path")
_TORCHS_OWN = ("_parameters", "_buffers", "_modules")
_MAX_DEPTH = 3  # of lists in lists that are searched
_HOOK_DICTIONARIES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def observe_modules(wrapped: Wrapped) -> Section:
    """Observe every module of a model, and what lies around it."""
    section: Section = {}
    if wrapped.kind is not None:
        section[WRAPPER] = {"kind": clean_text(wrapped.kind), "prefix": clean_text(wrapped.prefix)}
    registered = {id(module) for _, module in iterate_modules(wrapped.model)}
    registered |= {id(parameter) for _, parameter in iterate_parameters(wrapped.model)}
    registered |= {id(buffer) for _, buffer, _ in iterate_buffers(wrapped.model)}
    for name, module in iterate_modules(wrapped.model):
        section[clean_text(name) or ROOT] = seen = _observe_module(name, module)
        if unregistered := "; ".join(_unregistered(module, registered)):
            seen["unregistered"] = clean_text(unregistered)
    for holder, name, own_path in iterate_cycles(wrapped.model):
        section[clean_text(holder) or ROOT]["cycle"] = clean_text(f"{name} is {own_path or ROOT}, which holds it")
    return {**section, **observe_patches(wrapped.model)}


def _unregistered(module: "nn.Module", registered: Collection[int]) -> Iterator[str]:
    """Modules and tensors that a module holds in a list, a dict or an attribute, where torch does not know of them."""
    from torch import Tensor, nn

    def find(path: str, value: Any, depth: int) -> Iterator[str]:
        if isinstance(value, nn.Module):
            if id(value) not in registered:
                yield f"{path}: {_name_of(type(value))}"
        elif isinstance(value, Tensor):
            if id(value) not in registered:
                yield f"{path}: {value.dtype}{list(value.shape)}".replace("torch.", "")
        elif depth and isinstance(value, dict):
            for key, item in value.items():
                yield from find(f"{path}[{key!r}]", item, depth - 1)
        elif depth and isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                yield from find(f"{path}[{i}]", item, depth - 1)

    for key, value in vars(module).items():
        if key not in _TORCHS_OWN:
            yield from find(key, value, _MAX_DEPTH)


def _observe_module(name: str, module: "nn.Module") -> Observation:
    seen: Observation = {
        "training": to_scalar(module.training),
        "hooks": sum(1 for _ in _hooks_on(module)) + int(hasattr(module, "_hf_hook")),
        # Methods put on the instance, such as a forward that somebody wrapped.
        "overrides": clean_text(", ".join(sorted(key for key in vars(module) if callable_override(module, key)))),
        "compiled": getattr(module, "_compiled_call_impl", None) is not None,
    }
    for key, value in vars(module).items():
        if _is_its_own(key, value):
            seen[f"attribute.{clean_text(key)}"] = to_scalar(value)
    if name:  # the root's class is the subject's own
        seen["class"] = _name_of(type(module))
    else:
        seen["transformers_class"] = next((_name_of(kind) for kind in type(module).__mro__ if _is_theirs(kind)), None)
    if (config := getattr(module, "config", None)) is not None:
        seen["attn_implementation"] = to_scalar(getattr(config, "_attn_implementation", None))
        seen["loss_function"] = to_scalar(getattr(getattr(module, "loss_function", None), "__name__", None))
    return seen


def _is_its_own(key: str, value: Any) -> bool:
    """Whether an attribute is a value that a module may compute with; where something lies is none."""
    if key in _NOT_ITS_OWN or key.startswith("_"):
        return False
    if isinstance(value, tuple):  # a stride, a padding
        return bool(value) and all(isinstance(item, (bool, int, float)) for item in value)
    if not isinstance(value, (bool, int, float, str)):
        return False
    return not (isinstance(value, str) and os.path.isabs(value))  # noqa: PTH117 - any text may stand there


def _name_of(kind: type) -> str:
    return clean_text(f"{kind.__module__}.{kind.__qualname__}")


def _is_theirs(kind: type) -> bool:
    return kind.__module__.startswith("transformers.models.")


def _hooks_on(module: "nn.Module") -> Iterator[Any]:
    """The hooks on a module, less those that transformers leaves on one that was asked for its hidden states."""
    for name in _HOOK_DICTIONARIES:
        for hook in (getattr(module, name, None) or {}).values():
            if not is_capturing_hook(hook):
                yield hook


def callable_override(module: "nn.Module", key: str) -> bool:
    """Whether an instance's attribute stands in for a method of its class."""
    return callable(vars(module)[key]) and callable(getattr(type(module), key, None))
