"""Whose code it is that a name stands for: the library's own, or somebody else's.

In: a value that a module, a class or a table of torch's or transformers' holds. Out: a line for each function, class
or callable object in it that is not theirs. What they decorate, cache, bind or generate themselves is theirs.
"""

import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from theworld_validate.workers.whose_code import PACKAGES

# What they import from; `kernels` decorates functions of transformers where it is installed. Not any installed package:
# one that puts its own code in place of theirs lies beside them.
_THEIR_OWN = (
    *PACKAGES,
    "PIL",
    "accelerate",
    "huggingface_hub",
    "kernels",
    "numpy",
    "packaging",
    "safetensors",
    "tokenizers",
    "tqdm",
    "typing_extensions",
)
# Where decorators keep what they decorate: functools.wraps, and torch's compiler where it is told not to wrap.
_DECORATED = ("__wrapped__", "_torchdynamo_orig_callable")
# Methods that `dataclasses` writes as text and compiles, in the namespace of the class's own module.
_OF_A_DATACLASS = ("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__")
_OF_A_FROZEN_ONE = ("__setattr__", "__delattr__")
# The names that `<frozen os>` (Python's own modules) and torch.fx give to code without a file.
_GENERATED = ("<frozen ", "<eval_with_key>")


def foreign_code(value: Any) -> Iterator[str]:
    """Name what of a value is not the libraries' own code."""
    for part in parts_of(value):
        if isinstance(part, ModuleType):
            continue
        code = getattr(part, "__code__", None)
        if isinstance(part, type):
            if not _is_their_module(part.__module__):
                yield f"{part.__module__}.{part.__qualname__}"
        elif isinstance(code, CodeType):
            if _is_compiled(part) or not _is_theirs(part, code.co_filename):
                yield _name(part, code.co_filename)
        elif callable(part) or hasattr(type(part), "__get__"):
            kind = type(part)
            if not _is_their_module(kind.__module__):
                yield f"an object of {kind.__module__}.{kind.__qualname__}"


def parts_of(value: Any) -> Iterator[Any]:
    """What is called in the end: the functions inside of what Python wraps them in, and those behind a decorator.

    A decorator's own function comes before the one that it decorates: `torch.no_grad()(mine)` runs torch's, then mine.
    """
    yield from _parts_of(value, set())


def _parts_of(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:  # __wrapped__ may lead back
        return
    seen.add(id(value))
    if isinstance(value, property):
        inner = [value.fget, value.fset, value.fdel]
    elif isinstance(value, (staticmethod, classmethod)):
        inner = [value.__func__]
    elif isinstance(value, functools.singledispatchmethod):
        inner = [value.func, *value.dispatcher.registry.values()]
    elif isinstance(value, functools.cached_property):
        inner = [value.func]
    elif isinstance(value, (functools.partial, functools.partialmethod)):  # a function may be handed to theirs
        inner = [value.func, *filter(callable, (*value.args, *value.keywords.values()))]
    elif isinstance(value, functools._lru_cache_wrapper):
        inner = [value.__wrapped__]
    else:
        yield value
        attributes = getattr(value, "__dict__", {})
        inner = [attributes.get(name) for name in _DECORATED]
    for part in inner:
        if part is not None:
            yield from _parts_of(part, seen)


def _name(function: Any, file: str) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if file.startswith("<"):
        return f"{module}.{name}, compiled from text as {file}"
    # functools.wraps has a wrapper say that it is what it wraps.
    return f"{module}.{name}" + (f", as written in {Path(file).name}" if _is_their_module(module) else "")


def _is_compiled(function: Any) -> bool:
    attributes = getattr(function, "__dict__", {})
    return "_torchdynamo_orig_callable" in attributes and not attributes.get("_torchdynamo_disable")


def _is_theirs(function: Any, file: str) -> bool:
    return _is_generated_by_them(function, file) if file.startswith("<") else _is_their_file(file)


def _is_generated_by_them(function: Any, file: str) -> bool:
    """Whether code without a file is known: anybody's `exec` makes such code."""
    if file.startswith(_GENERATED):
        return True
    if file != "<string>":
        return False
    space = getattr(function, "__globals__", {})
    module = str(space.get("__name__"))
    if module.startswith("namedtuple_") and function.__name__ in ("__new__", "<lambda>"):
        return True
    is_of_a_module = space is vars(sys.modules[module]) if module in sys.modules else False
    return is_of_a_module and _is_their_module(module) and function.__name__ in (*_OF_A_DATACLASS, *_OF_A_FROZEN_ONE)


def _is_their_module(name: object) -> bool:
    top = str(name).partition(".")[0]
    return top in _THEIR_OWN or top in sys.stdlib_module_names or top == "builtins"


@functools.cache
def _is_their_file(file: str) -> bool:
    if file.startswith(_roots()):
        return True
    is_installed = "site-packages" in file or "dist-packages" in file
    return file.startswith(sysconfig.get_path("stdlib")) and not is_installed


@functools.cache
def _roots() -> tuple[str, ...]:
    files = [Path(str(sys.modules[name].__file__)) for name in _THEIR_OWN if name in sys.modules]
    return tuple(f"{file.parent}{os.sep}" if file.name == "__init__.py" else str(file) for file in files)
