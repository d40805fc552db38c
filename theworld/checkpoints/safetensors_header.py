"""Safetensors headers, parsed as strictly as the format is defined, without a byte of the tensors being read.

In: a file. Out: where each tensor lies, or a `ValueError` with the file, the tensor and the fix.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import check_not_lfs_pointer, open_regular, parse_json
from theworld.checkpoints.error_text import file_error, shown_name, summary

_LENGTH_BYTES = 8  # a safetensors file opens with its header's length: 64 bits, little-endian
_MAX_HEADER_BYTES = 100_000_000  # the limit of the format itself
_MAX_DIMENSIONS = 64
_AGAIN = "download or write it again"
BITS_OF_DTYPE = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
FLOATING_DTYPES = frozenset(name for name in BITS_OF_DTYPE if name.startswith(("F", "BF")))
TORCH_DTYPE_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies in a file: `start` and `stop` are byte offsets from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """Read what tensors a safetensors file holds; check the header, and that the file is as long as it says.

    Raises:
        ValueError: if the file is truncated, is not a safetensors file, or breaks a rule of the format.
    """
    with open_regular(path) as (file, size):
        head = file.read(64)
        check_not_lfs_pointer(path, head)
        header_bytes = int.from_bytes(head[:_LENGTH_BYTES], "little")
        if size < _LENGTH_BYTES or not 0 < header_bytes <= min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise file_error(path, "not a safetensors file, or cut off in its header", _AGAIN)
        file.seek(_LENGTH_BYTES)
        raw = file.read(header_bytes)
    try:
        header = parse_json(raw.decode("utf-8"))
    except ValueError as error:
        raise file_error(path, f"its safetensors header is not JSON ({summary(error)})", _AGAIN) from error
    if not isinstance(header, dict) or not raw.startswith(b"{"):
        raise file_error(path, f"its safetensors header is a {type(header).__name__}, expected an object", _AGAIN)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise file_error(path, "__metadata__ in its safetensors header is not a map of text to text", _AGAIN)
    data_start = _LENGTH_BYTES + header_bytes
    entries = {}
    for name, entry in header.items():
        problem = _entry_problem(entry)
        if problem:
            raise file_error(path, f"tensor {shown_name(name)}: {problem}", _AGAIN)
        begin, end = entry["data_offsets"]
        entries[name] = TensorEntry(
            dtype=entry["dtype"], shape=tuple(entry["shape"]), start=data_start + begin, stop=data_start + end
        )
    _check_spans(path, entries, data_start, size)
    return entries


def _entry_problem(entry: Any) -> str | None:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "its entry must hold dtype, shape and data_offsets, and nothing else"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS_OF_DTYPE:
        return f"dtype {shown_name(dtype)} is none of the format's"
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        return f"shape {shown_name(shape)} is not a list of sizes"
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"data_offsets {shown_name(offsets)} are not a begin and an end"
    bits = math.prod(shape) * BITS_OF_DTYPE[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        return f"shape {shape} of {dtype} takes {bits // 8:,} bytes, data_offsets span {offsets[1] - offsets[0]:,}"
    return None


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_spans(path: Path, entries: dict[str, TensorEntry], data_start: int, size: int) -> None:
    """Raise a `ValueError` unless the tensors lie one after the other, and fill the file."""
    expected = max((entry.stop for entry in entries.values()), default=data_start)
    if size != expected:
        state = "truncated" if size < expected else "too long"
        raise file_error(path, f"{state}: {size:,} bytes, its header says {expected:,}", _AGAIN)
    position = data_start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            what = "overlaps the one before it" if entry.start < position else "leaves a hole before it"
            raise file_error(path, f"tensor {shown_name(name)}: its data {what}", _AGAIN)
        position = entry.stop
