"""Code that was put in place of the library's own: methods, functions and tables, in the whole process.

In: a model. Out: what torch's and transformers' own names stand for where it is code of somebody else. Patches on an
instance are in `modules`. A patch may answer alike on every probe; it is other code all the same.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.homes import foreign_code, parts_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.tree import iterate_modules
from theworld_validate.workers.whose_code import PACKAGES

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
    "transformers.activations",
    "transformers.cache_utils",
    "transformers.generation.logits_process",
    "transformers.generation.stopping_criteria",
    "transformers.generation.utils",
    "transformers.integrations.sdpa_attention",
    "transformers.loss.loss_utils",
    "transformers.masking_utils",
    "transformers.modeling_rope_utils",
    "transformers.modeling_utils",
)
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
    names = dict.fromkeys([*_ALWAYS, *sorted(kind.__module__ for kind in kinds)])
    spaces = [sys.modules[name] for name in names if name in sys.modules]
    for space in spaces:
        kinds |= {item for item in vars(space).values() if isinstance(item, type) and item.__module__ == space.__name__}
    found: Section = {}
    for place, code in [*_in_classes(kinds), *_in_modules(spaces), *_in_tables(spaces)]:
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


def _in_tables(spaces: Sequence[ModuleType]) -> Iterator[tuple[str, str]]:
    for name, table in _tables(spaces):
        for key, value in _entries(table):
            place = f"{name}[{key}]"
            for item in value if isinstance(value, (tuple, list)) else (value,):  # ACT2FN has (class, arguments)
                if callable(item):
                    yield from _foreign(place, item)
            if isinstance(table, _attention_kinds()):
                yield from _swapped(place, str(key), value)


def _tables(spaces: Sequence[ModuleType]) -> Iterator[tuple[str, Any]]:
    """Each table of functions or classes once, by its name in the first module that has it: its home comes first.

    A modeling module may have one of its own, whose entries go before those of the table that all share. Torch's
    tables are what hooks and caches are kept in: what is on is in `globals`.
    """
    from transformers.utils.generic import GeneralInterface

    seen: set[int] = set()
    for space in spaces:
        if space.__name__.partition(".")[0] != "transformers":
            continue
        for name, value in list(vars(space).items()):
            if isinstance(value, (dict, GeneralInterface)) and not name.startswith("__") and id(value) not in seen:
                seen.add(id(value))
                yield f"{space.__name__}.{name}", value


def _entries(table: Any) -> list[tuple[Any, Any]]:
    # As they are kept: asked for an entry, ACT2FN makes an object of its class.
    return list(dict.items(table)) if isinstance(table, dict) else [(key, table[key]) for key in list(table)]


def _attention_kinds() -> tuple[type, ...]:
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    return AttentionInterface, AttentionMaskInterface


def _swapped(place: str, key: str, value: Any) -> Iterator[tuple[str, str]]:
    """An entry that stands for another of the library's own functions: its name tells what kind of attention it is."""
    for function in parts_of(value):
        name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"
        asked, given = (set(_KINDS_OF_ATTENTION.findall(text)) for text in (key, name))
        is_from_the_hub = "/" in key  # a kernel's own name
        if asked and not is_from_the_hub and not (asked <= given and _PAGED & given <= asked):
            yield place, name


def _foreign(place: str, value: Any) -> Iterator[tuple[str, str]]:
    for code in foreign_code(value):
        yield place, code
