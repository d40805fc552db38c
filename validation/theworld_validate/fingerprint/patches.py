"""Code that was put in place of the library's own: methods, functions and tables, in the whole process.

In: a model. Out: what torch's and transformers' own names stand for where it is code of somebody else. Patches on an
instance are in `modules`. A patch may answer alike on every probe; it is other code all the same.
"""

import functools
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.tree import iterate_modules

if TYPE_CHECKING:
    from torch import nn

CODE = "(code)"  # what such a location starts with
_PACKAGES = ("torch", "transformers")
_THEIR_OWN = (*_PACKAGES, "accelerate", "huggingface_hub", "safetensors", "typing_extensions")  # what they import from
# Beside the modules that the model's own classes are defined in.
_ALWAYS = (
    "torch.nn.functional",
    "transformers.cache_utils",
    "transformers.generation.utils",
    "transformers.masking_utils",
    "transformers.integrations.sdpa_attention",
)
_TABLES = (
    ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "ALL_MASK_ATTENTION_FUNCTIONS"),
)


def observe_patches(model: "nn.Module") -> Section:
    """Name each of the library's names that stands for other code, with the code that it stands for."""
    kinds = {
        kind
        for _, module in iterate_modules(model)
        for kind in type(module).__mro__
        if kind.__module__.partition(".")[0] in _PACKAGES and _is_where_it_says(kind)
    }
    names = sorted({*_ALWAYS, *(kind.__module__ for kind in kinds)})
    spaces = [sys.modules[name] for name in names if name in sys.modules]
    for space in spaces:
        kinds |= {item for item in vars(space).values() if isinstance(item, type) and item.__module__ == space.__name__}
    found: Section = {}
    for place, code in [*_in_classes(kinds), *_in_modules(spaces), *_in_tables()]:
        found.setdefault(f"{CODE} {clean_text(place)}", {"code": clean_text(code)})
    return dict(sorted(found.items()))


def _is_where_it_says(kind: type) -> bool:
    """Whether a class is the one that its module has by its name: a subclass may carry its base's name."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _in_classes(kinds: Iterable[type]) -> Iterator[tuple[str, str]]:
    for kind in kinds:
        for name, value in list(vars(kind).items()):
            yield from _foreign(f"{kind.__module__}.{kind.__qualname__}.{name}", value)


def _in_modules(spaces: Iterable[ModuleType]) -> Iterator[tuple[str, str]]:
    for space in spaces:
        for name, value in list(vars(space).items()):
            yield from _foreign(f"{space.__name__}.{name}", value)


def _in_tables() -> Iterator[tuple[str, str]]:
    for module, name in _TABLES:
        table = getattr(sys.modules.get(module), name, None) or {}
        for key in list(table):
            yield from _foreign(f"{module}.{name}[{key}]", table[key])


def _foreign(place: str, value: Any) -> Iterator[tuple[str, str]]:
    function = _function_of(value)
    code = getattr(function, "__code__", None)
    file = getattr(code, "co_filename", None)
    if isinstance(file, str) and (_is_compiled(function) or not _is_the_librarys(file)):
        yield place, f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"


def _function_of(value: Any) -> Any:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    while isinstance(value, functools.partial):
        value = value.func
    return value


def _is_compiled(function: Any) -> bool:
    attributes = vars(function)
    return "_torchdynamo_orig_callable" in attributes and not attributes.get("_torchdynamo_disable")


@functools.cache
def _is_the_librarys(file: str) -> bool:
    if file.startswith(("<", *_roots())):
        return True
    is_installed = "site-packages" in file or "dist-packages" in file
    return file.startswith(sysconfig.get_path("stdlib")) and not is_installed


@functools.cache
def _roots() -> tuple[str, ...]:
    files = [Path(str(sys.modules[name].__file__)) for name in _THEIR_OWN if name in sys.modules]
    return tuple(f"{file.parent}{os.sep}" if file.name == "__init__.py" else str(file) for file in files)
