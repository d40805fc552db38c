"""Anything that a model holds as a JSON scalar that is the same in every process.

In: a value. Out: a bool, a finite number, text without half surrogates, or None; never an exception.
"""

import math
import re
from typing import Any

from theworld_validate.results import Scalar

_MAX_TEXT = 4_000
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_BITS_OF_A_NUMBER = 63


def to_scalar(value: Any) -> Scalar:
    """Write a value as a JSON scalar; what is none is written as Python does, less addresses in memory."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _BITS_OF_A_NUMBER else clean_text(hex(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return clean_text(str.__str__(value))
    try:
        return clean_text(_ADDRESS.sub("0x...", str(value)))
    except Exception as error:  # its own __str__ or __repr__ raised
        return f"a {type(value).__name__} that cannot be written: {type(error).__name__}"


def clean_text(text: str) -> str:
    """Text that JSON can carry; of what is very long the beginning, and the digest of all of it."""
    clean = text.encode("utf-8", "backslashreplace").decode()
    if len(clean) <= _MAX_TEXT:
        return clean
    import xxhash

    return f"{clean[:_MAX_TEXT]}... ({len(clean):,} characters, xxh3 {xxhash.xxh3_128_hexdigest(clean.encode())})"
