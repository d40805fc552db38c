"""transformers' hooks that capture hidden states: they stay on a model once it was asked for any.

In: a model. Out: the model as it was, when the context ends, so that asking is no change of it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

_MARK = "_output_capturing_hooks_installed"
_HOME = "transformers."
_ITS_HOOKS = "transformers.utils.output_capturing"


def is_capturing_hook(hook: Any) -> bool:
    """Whether it is transformers' own: it does nothing unless hidden states or attentions are asked for."""
    return getattr(hook, "__module__", None) == _ITS_HOOKS


@contextlib.contextmanager
def without_capturing_hooks_after(model: Any) -> Iterator[None]:
    """Remove the hooks that transformers' own code puts on modules meanwhile, and its mark that they are there."""
    modules = list(model.modules())
    hooks = {id(module): set(module._forward_hooks) for module in modules}
    marked = {id(module) for module in modules if _MARK in vars(module)}
    try:
        yield
    finally:
        for module in modules:
            for key, hook in list(module._forward_hooks.items()):
                if key not in hooks[id(module)] and str(getattr(hook, "__module__", "")).startswith(_HOME):
                    del module._forward_hooks[key]
            if id(module) not in marked:
                vars(module).pop(_MARK, None)
