"""Models that torch.compile has a part in: their modules can be traced only as they are without it.

In: a model. Out: whether something in it is compiled, the model inside, and a stretch in which nothing is. Dynamo
would trace into a hook, and break the compiled code where it is called.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The place in a trace that says that it is of the modules themselves, not of what torch.compile made of them.
COMPILED_PLACE = "(compiled)"
COMPILED_NOTE = "traced with torch.compile switched off; the outputs are the compiled code's"


def is_compiled(model: Any) -> bool:
    """Whether a module is compiled, in place or as a wrapper."""
    return any(_is_wrapper(module) or module._compiled_call_impl is not None for module in model.modules())


def without_wrapper(model: Any) -> Any:
    """The model inside, where `torch.compile` returned this one."""
    return model._orig_mod if _is_wrapper(model) else model


def _is_wrapper(module: Any) -> bool:
    return type(module).__name__ == "OptimizedModule"


@contextmanager
def compiler_off(*, enabled: bool) -> Iterator[None]:
    """Run compiled code as it was written, until the block ends.

    Args:
        enabled: whether to change anything.
    """
    if not enabled:
        yield
        return
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


def is_compilers_error(error: BaseException) -> bool:
    """Whether Dynamo or a backend of it raised, here or where the error comes from."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__module__.startswith("torch._dynamo"):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
