"""What general probes need to know of a config, whatever its family calls it.

In: a config of transformers. Out: whole numbers, token ids, sizes; or an `InputError` of one line with the field.
"""

import re
from collections.abc import Iterator
from typing import Any

from theworld_validate.results import InputError

_POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions", "n_ctx", "max_seq_len")
_LONGEST = 16_384
_SPECIAL = re.compile(r"token_(ids?|index)$|_token$")


def text_config(config: Any) -> Any:
    """The part that is about text; the config itself where it has no such part."""
    return config.get_text_config()


def vocab_size(config: Any) -> int:
    """How many token ids there are.

    Raises:
        InputError: if the config does not say so.
    """
    for part in (text_config(config), config):
        size = getattr(part, "vocab_size", None)
        if isinstance(size, int) and size > 0:
            return size
    raise InputError("config.json: vocab_size is missing; probes need it; give your own with --probes MODULE:FUNCTION")


def longest_row(config: Any) -> int:
    """How many tokens a probe's row may have."""
    return min(most_positions(config) or _LONGEST, _LONGEST)


def most_positions(config: Any) -> int | None:
    """How many positions a model has; None where nothing limits them."""
    text = text_config(config)
    found = [getattr(text, name, None) for name in _POSITIONS]
    return min((size for size in found if isinstance(size, int) and size > 0), default=None)


def sliding_window(config: Any) -> int | None:
    """How many tokens a sliding layer sees; None where none slides."""
    text = text_config(config)
    window = getattr(text, "sliding_window", None)
    slides = getattr(text, "use_sliding_window", True) is not False
    return window if slides and isinstance(window, int) and window > 0 else None


def special_ids(config: Any) -> set[int]:
    """Every token id that some field of a config names: none of them is ordinary text."""
    return set(_special_ids(config.to_dict()))


def _special_ids(values: dict[str, Any]) -> Iterator[int]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _special_ids(value)
        elif _SPECIAL.search(str(name)):
            yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int))


def first_of(config: Any, *names: str, default: Any = None) -> Any:
    """The first of some fields, "part.field" for one of a sub-config, that is there and not None."""
    for name in names:
        value = config
        for step in name.split("."):
            value = getattr(value, step, None)
        if value is not None:
            return value
    return default


def side_of(size: Any) -> tuple[int, int]:
    """Height and width of an image: of a number, a pair, or an object."""
    if isinstance(size, dict):
        size = (size.get("height", 0), size.get("width", 0))
    if isinstance(size, (list, tuple)):
        return int(size[-2]), int(size[-1])
    return int(size), int(size)
