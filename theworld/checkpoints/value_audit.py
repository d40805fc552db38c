"""One pass over a checkpoint's values: what is not finite, what is all zero, which tied tables differ.

In: the files that a loader opens. Out: a `ValueAudit`. Memory stays within one piece of a tensor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from theworld.checkpoints.bounded_files import open_regular
from theworld.checkpoints.key_audit import Headers
from theworld.checkpoints.safetensors_header import TensorEntry

_PIECE_BYTES = 16 << 20
# dtype -> (numpy's type of the bits, mask and pattern of what is not finite, mask of the magnitude)
_BITS: dict[str, tuple[str, int, int, int]] = {
    "BF16": ("<u2", 0x7F80, 0x7F80, 0x7FFF),
    "F16": ("<u2", 0x7C00, 0x7C00, 0x7FFF),
    "F32": ("<u4", 0x7F80_0000, 0x7F80_0000, 0x7FFF_FFFF),
    "C64": ("<u4", 0x7F80_0000, 0x7F80_0000, 0x7FFF_FFFF),
    "F64": ("<u8", 0x7FF0 << 48, 0x7FF0 << 48, (1 << 63) - 1),
    "F8_E5M2": ("u1", 0x7C, 0x7C, 0x7F),
    "F8_E4M3": ("u1", 0x7F, 0x7F, 0x7F),
    "F8_E5M2FNUZ": ("u1", 0xFF, 0x80, 0xFF),
    "F8_E4M3FNUZ": ("u1", 0xFF, 0x80, 0xFF),
    "F8_E8M0": ("u1", 0xFF, 0xFF, 0xFF),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """A tensor with infinities or NaNs: how many of its elements."""

    key: str
    file: str
    num_elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueAudit:
    """What the values of a checkpoint's files are.

    Args:
        all_zero: keys of matrices (two dimensions or more) in which every element is zero.
        tied_different: pairs of keys that are one table of the model, and are stored with different bits.
    """

    num_tensors: int
    num_bytes: int
    non_finite: tuple[NonFinite, ...]
    all_zero: tuple[str, ...]
    tied_different: tuple[tuple[str, str], ...]


def audit_values(headers: Headers, *, tied_twice: tuple[tuple[str, str], ...] = ()) -> ValueAudit:
    """Read every tensor once.

    Args:
        tied_twice: pairs of file keys to compare, as `KeyAudit.tied_twice` has them.

    Raises:
        ValueError: if a file cannot be read.
    """
    non_finite, all_zero = [], []
    by_file: dict[Path, list[str]] = {}
    for key, path in headers.file_of.items():
        by_file.setdefault(path, []).append(key)
    for path, keys in by_file.items():
        with open_regular(path) as (file, _):
            for key in keys:
                entry = headers.entries[key]
                num_bad, is_zero = _count(file, entry)
                if num_bad:
                    non_finite.append(NonFinite(key=key, file=path.name, num_elements=num_bad))
                if is_zero and len(entry.shape) >= 2:
                    all_zero.append(key)
    return ValueAudit(
        num_tensors=len(headers.entries),
        num_bytes=sum(entry.stop - entry.start for entry in headers.entries.values()),
        non_finite=tuple(non_finite),
        all_zero=tuple(all_zero),
        tied_different=tuple(pair for pair in tied_twice if not _are_equal(headers, *pair)),
    )


def _pieces(file: Any, entry: TensorEntry) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(_PIECE_BYTES, entry.stop - entry.start)))
    file.seek(entry.start)
    left = entry.stop - entry.start
    while left:
        piece = buffer[: min(left, len(buffer))]
        if file.readinto(piece) != len(piece):
            raise ValueError(f"{file.name}: became shorter while it was read; download or write it again")
        left -= len(piece)
        yield piece


def _count(file: Any, entry: TensorEntry) -> tuple[int, bool]:
    """How many elements are not finite, and whether there are elements and all are zero."""
    code, mask, pattern, magnitude = _BITS.get(entry.dtype, ("u1", 0, 1, 0xFF))
    num_bad, is_zero = 0, entry.stop > entry.start
    for piece in _pieces(file, entry):
        bits = np.frombuffer(piece, dtype=code)
        if mask:
            num_bad += int(np.count_nonzero((bits & bits.dtype.type(mask)) == bits.dtype.type(pattern)))
        is_zero = is_zero and not np.any(bits & bits.dtype.type(magnitude))
    return num_bad, is_zero


def _are_equal(headers: Headers, one: str, other: str) -> bool:
    entries = headers.entries[one], headers.entries[other]
    if (entries[0].dtype, entries[0].shape) != (entries[1].dtype, entries[1].shape):
        return False
    with open_regular(headers.file_of[one]) as (file, _), open_regular(headers.file_of[other]) as (other_file, _):
        pieces = zip(_pieces(file, entries[0]), _pieces(other_file, entries[1]), strict=True)
        return all(bytes(ours) == bytes(theirs) for ours, theirs in pieces)
