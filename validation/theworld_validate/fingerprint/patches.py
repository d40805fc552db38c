"""Code that was put in place of the library's own: methods, functions and tables, in the whole process.

In: a model. Out: what torch's and transformers' own names stand for where it is code of somebody else. Patches on an
instance are in `modules`. A patch may answer alike on every probe; it is other code all the same.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.homes import PACKAGES, foreign_code, parts_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.tree import iterate_modules

if TYPE_CHECKING:
    from torch import nn

CODE = "(code)"  # what such a location starts with
# Beside the modules that the model's own classes are defined in; with the classes that each defines, as torch.Tensor.
_ALWAYS = (
    "torch",
    "torch.functional",
    "torch.nn.functional",
    "torch.nn.modules.module",
    "torch.utils.checkpoint",
    "transformers.cache_utils",
    "transformers.generation.logits_process",
    "transformers.generation.stopping_criteria",
    "transformers.generation.utils",
    "transformers.integrations.sdpa_attention",
    "transformers.loss.loss_utils",
    "transformers.masking_utils",
    "transformers.modeling_utils",
)
_ATTENTION_TABLES = (
    ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "ALL_MASK_ATTENTION_FUNCTIONS"),
)
_TABLES = (*_ATTENTION_TABLES, ("transformers.loss.loss_utils", "LOSS_MAPPING"))
_KINDS_OF_ATTENTION = re.compile("eager|sdpa|flash|flex|paged")
_PAGED = {"paged"}


def observe_patches(model: "nn.Module") -> Section:
    """Name each of the library's names that stands for other code, with the code that it stands for."""
    kinds = {
        kind
        for _, module in iterate_modules(model)
        for kind in type(module).__mro__
        if kind.__module__.partition(".")[0] in PACKAGES and _is_where_it_says(kind)
    }
    names = sorted({*_ALWAYS, *(kind.__module__ for kind in kinds)})
    spaces = [sys.modules[name] for name in names if name in sys.modules]
    for space in spaces:
        kinds |= {item for item in vars(space).values() if isinstance(item, type) and item.__module__ == space.__name__}
    found: Section = {}
    for place, code in [*_in_classes(kinds), *_in_modules(spaces), *_in_tables(), *_swapped()]:
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
    for place, _, value in _entries(_TABLES):
        yield from _foreign(place, value)


def _swapped() -> Iterator[tuple[str, str]]:
    """Entries that stand for another of the library's own functions: its name tells what kind of attention it is."""
    for place, key, value in _entries(_ATTENTION_TABLES):
        for function in parts_of(value):
            name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"
            asked, given = (set(_KINDS_OF_ATTENTION.findall(text)) for text in (key, name))
            is_from_the_hub = "/" in key  # a kernel's own name
            if asked and not is_from_the_hub and not (asked <= given and _PAGED & given <= asked):
                yield place, name


def _entries(tables: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, Any]]:
    for module, name in tables:
        table = getattr(sys.modules.get(module), name, None) or {}
        for key in list(table):
            yield f"{module}.{name}[{key}]", str(key), table[key]


def _foreign(place: str, value: Any) -> Iterator[tuple[str, str]]:
    for code in foreign_code(value):
        yield place, code
