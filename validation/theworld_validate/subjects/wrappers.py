"""What a loader returned, down to the model inside: wrappers that torch, PEFT and people put around one.

In: whatever a loader returned. Out: `Wrapped`: the model, and what lies around it; or an `InputError` that says what
was returned and what should be. Nothing is run and nothing is changed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from theworld_validate.results import InputError

_MAX_DEPTH = 8
# PEFT's own names inside the modules that it replaces: the base's weight lies one step further in.
_PEFT_STEPS = re.compile(r"\.(?:base_layer|original_module)(?=\.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A model, and what a loader put around it.

    Args:
        model: what is observed: a `PreTrainedModel` where there is one.
        prefix: what the names of its parameters start with in `outer`'s; empty where nothing is around it.
        kind: the wrappers, outermost first, such as "DataParallel" or "tuple > PeftModel"; None for none.
        outer: what the loader returned; of a pair its model.
        adapter: PEFT's model where there is one: it saves and loads its own way.
    """

    model: Any
    prefix: str = ""
    kind: str | None = None
    outer: Any
    adapter: Any = None

    @property
    def is_compiled_outside(self) -> bool:
        """Whether `torch.compile` is the only wrapper: what it compiled is the model's own forward."""
        return self.kind == "OptimizedModule"


def unwrap(loaded: Any, *, target: str = "the loader", prefix: str | None = None) -> Wrapped:
    """Find the model in what a loader returned.

    Args:
        loaded: a model, a `(model, loading_info)` pair, or a module around one model.
        target: who returned it, for the error.
        prefix: where the model lies in it; found by itself if None.

    Raises:
        InputError: if it is no torch module, or has none there.
    """
    from torch import nn

    if isinstance(loaded, Wrapped):
        return loaded
    kinds: list[str] = []
    model, path, adapter = loaded, "", None
    if isinstance(model, (tuple, list)) and model and isinstance(model[0], nn.Module):
        kinds.append(type(model).__name__)
        model = model[0]
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{target} returned {_describe(model)}; a loader returns the model that it loaded, a torch.nn.Module"
        )
    outer = model
    if prefix is not None:
        return _at(prefix, outer, target=target)
    for _ in range(_MAX_DEPTH):
        if _is_peft(model):
            adapter = model
        step = _step_in(model)
        if step is None:
            break
        kinds.append(type(model).__name__)
        path, model = path + step[0], step[1]
    return Wrapped(model=model, prefix=path, kind=" > ".join(kinds) or None, outer=outer, adapter=adapter)


def _at(prefix: str, outer: Any, *, target: str) -> Wrapped:
    path = prefix.removesuffix(".")
    try:
        inner = outer.get_submodule(path)
    except AttributeError as error:
        raise InputError(f"--prefix {prefix}: what {target} returned has no module there") from error
    if inner is outer:
        raise InputError("--prefix is empty; name the module that holds the model, such as lm.")
    return Wrapped(model=inner, prefix=f"{path}.", kind=type(outer).__name__, outer=outer)


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if isinstance(value, (tuple, list)) and value:
        return f"a {kind} that starts with {_describe(value[0])}"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _step_in(module: Any) -> tuple[str, Any] | None:
    """One wrapper off: (what the names inside start with, the module inside); None if `module` is no wrapper."""
    from transformers import PreTrainedModel

    if isinstance(module, PreTrainedModel):
        return None
    if _is_peft(module):
        inner = module.get_base_model()
        return _prefix_of(inner, module), inner
    # What compiles, replicates or shards holds one module, and says its name with this one.
    for name in ("_orig_mod", "module", "_fsdp_wrapped_module"):
        inner = module._modules.get(name)
        if inner is not None and len(module._modules) == 1:
            return f"{name}.", inner
    outermost = _outermost_models(module)
    if len(outermost) == 1:
        ((path, inner),) = outermost
        return f"{path}.", inner
    return None


def _is_peft(module: Any) -> bool:
    return any(kind.__name__ == "PeftModel" and kind.__module__.startswith("peft.") for kind in type(module).__mro__)


def _prefix_of(inner: Any, module: Any) -> str:
    return next((f"{name}." for name, part in module.named_modules() if part is inner), "")


def _outermost_models(module: Any) -> list[tuple[str, Any]]:
    from transformers import PreTrainedModel

    found: list[tuple[str, Any]] = []
    for path, part in module.named_modules():
        inside_one = any(path.startswith(f"{outer}.") for outer, _ in found)
        if path and isinstance(part, PreTrainedModel) and not inside_one:
            found.append((path, part))
    return found


def own_name(model: Any) -> Callable[[str], str]:
    """How a model's parameters are named: as its class does, less the steps that PEFT put between.

    Two names that would become one keep theirs.
    """
    # Each module once, with its tied tensors: a module that hangs below itself has paths without end.
    names = [
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    ]
    if not any(_PEFT_STEPS.search(name) for name in names):
        return lambda name: name
    taken = {name for name in names if not _PEFT_STEPS.search(name)}

    def rename(name: str) -> str:
        shorter = _PEFT_STEPS.sub("", name)
        return name if shorter in taken else shorter

    return rename
