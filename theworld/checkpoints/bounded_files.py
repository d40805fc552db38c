"""The one reader of files that somebody else wrote: regular, of bounded size, strictly parsed.

In: a path and the kind of file. Out: its bytes, or a JSON or TOML object. Everything that is wrong is a `ValueError`
of one clean line: the file, what is wrong, the fix. A FIFO or a device is never waited for nor read.
"""

import errno
import json
import math
import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from theworld.checkpoints.error_text import file_error, one_line, shown_name, summary

MIB = 1 << 20
MAX_CONFIG_BYTES = 16 * MIB
MAX_INDEX_BYTES = 64 * MIB
MAX_TOKENIZER_BYTES = 64 * MIB
MAX_VALUES = 1_000_000  # of one JSON document; each takes up to some 500 bytes of memory, and some microseconds
MAX_TOKENIZER_VALUES = 5_000_000  # Gemma 3's has 1.9 million
MAX_DEPTH = 64  # of nested lists and objects
MAX_NAME_LENGTH = 255  # bytes of a file's name, on every common file system
_FLOAT_BITS = 1023  # of a whole number that a float can hold
_TEXT_BITS = 14_000  # of one that Python writes as text
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_REASONS = {
    errno.ENOENT: "missing",
    errno.EACCES: "may not be read (permission denied)",
    errno.EPERM: "may not be read (permission denied)",
    errno.ELOOP: "a circle of symbolic links",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.ENXIO: "not a regular file",
}


def system_reason(error: OSError) -> str:
    """What an `OSError` means, in words."""
    return _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)


def check_readable_path(path: object) -> None:
    """Refuse a path that no library can open: not UTF-8, a null byte, relative to a deleted working directory.

    Raises:
        ValueError: with the path and the fix.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise file_error(text, "the path is not UTF-8, which safetensors needs", "rename the folder") from error
    if "\0" in text:
        raise file_error(text, "the path holds a null character", "give another path")
    if not os.path.isabs(text):  # noqa: PTH117 - the text may be a hub id
        try:
            Path.cwd()
        except OSError as error:
            raise file_error(text, "the working directory was deleted", "change to one that exists") from error


def is_folder(path: Path) -> bool:
    """Whether there is such a folder.

    Raises:
        ValueError: if it, or a folder above it, may not be entered.
    """
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return False
        os.scandir(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else summary(error)
        raise file_error(path, f"the folder {reason}", "give a folder that can be read") from error
    return True


def is_regular_file(path: Path) -> bool:
    """Whether there is something at `path`, through symbolic links, that a loader would take for a file.

    Raises:
        ValueError: if something is there that is not a regular file, or nobody may look.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise file_error(path, "a symbolic link to a file that is missing", "download the file again") from None
        return False
    except (OSError, ValueError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else summary(error)
        raise file_error(path, reason, "give files that can be read") from error
    if not stat.S_ISREG(mode):
        raise file_error(path, "not a regular file", "put the file itself there")
    return True


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file, and yield it with its size in bytes.

    Raises:
        ValueError: if it is missing, may not be read, or is no regular file (a folder, FIFO or device); also where
            reading it fails, inside of the block.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise file_error(path, system_reason(error), "check the path and its permissions") from error
    except ValueError as error:  # a null byte in the path
        raise file_error(path, summary(error), "give another path") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise file_error(path, "not a regular file", "put the file itself there")
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        try:
            yield file, state.st_size
        except OSError as error:
            raise file_error(path, system_reason(error), "read or copy it again") from error


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """Read a whole regular file of at most `max_bytes`.

    Raises:
        ValueError: if it cannot be read, or is larger.
    """
    with open_regular(path) as (file, size):
        if size > max_bytes:
            raise file_error(path, f"{size:,} bytes, and at most {max_bytes:,} are read", "give the right file")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise file_error(path, f"more than {max_bytes:,} bytes", "give the right file")
    return data


def check_not_lfs_pointer(path: Path, data: bytes) -> None:
    """Raise a `ValueError` if a file's first bytes are those of a git-lfs pointer."""
    if data.startswith(_LFS_POINTER):
        raise file_error(path, "a git-lfs pointer, not the file itself", "run git lfs pull, or download the file")


def read_text(path: Path, *, max_bytes: int) -> str:
    """Read a whole UTF-8 text file of at most `max_bytes`.

    Raises:
        ValueError: if it cannot be read, is larger, or is not UTF-8.
    """
    data = read_bytes(path, max_bytes=max_bytes)
    check_not_lfs_pointer(path, data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise file_error(path, f"not UTF-8 text (byte {error.start:,})", "download or write it again") from error


def read_json(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Read JSON strictly: see `parse_json`."""
    text = read_text(path, max_bytes=max_bytes)
    try:
        return parse_json(text, max_values=max_values)
    except ValueError as error:
        raise file_error(path, f"not valid JSON ({summary(error)})", "download or write it again") from error


def read_json_object(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES, max_values: int = MAX_VALUES) -> dict[str, Any]:
    """Read a JSON object strictly.

    Raises:
        ValueError: if the file is missing, too large, not regular, or not a strict JSON object.
    """
    value = read_json(path, max_bytes=max_bytes, max_values=max_values)
    if not isinstance(value, dict):
        raise file_error(path, f"holds a {type(value).__name__}, expected a JSON object", "download or write it again")
    return value


def read_toml_object(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read TOML strictly: finite numbers, bounded nesting.

    Raises:
        ValueError: if the file is missing, too large, not regular, or not strict TOML.
    """
    text = read_text(path, max_bytes=max_bytes)
    try:
        _check_dotted_keys(text)
        value = tomllib.loads(text)
        _check_values(value, max_bits=_TEXT_BITS)
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"not valid TOML ({summary(error)})", "correct it") from error
    return value


def _check_dotted_keys(text: str) -> None:
    """tomllib takes time by the square of a dotted key's length."""
    if any(line.count(".") > MAX_DEPTH for line in text.splitlines() if not line.lstrip().startswith("#")):
        raise ValueError(f"more than {MAX_DEPTH} dots on one line")


def check_num_values(text: str, most: int) -> None:
    """Raise a `ValueError` if JSON may hold more values than this; commas in its strings count, too."""
    if sum(text.count(mark) for mark in ",[{") > most:
        raise ValueError(f"more than {most:,} values")


def parse_json(text: str, *, max_values: int = MAX_VALUES) -> Any:
    """Parse JSON of bounded size with finite numbers, no repeated keys, bounded nesting and no lone surrogates.

    transformers writes an infinite float as `{"__float__": "Infinity"}`, so no config needs the bare constants.

    Raises:
        ValueError: for anything else.
    """
    check_num_values(text, max_values)
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from error
    _check_values(value, strings="\\u" in text)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {shown_name(twice)} appears twice")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{one_line(text, 40)} is out of range")
    return value


def _check_values(value: Any, *, strings: bool = False, max_bits: int = _FLOAT_BITS) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if strings:
                    below.extend(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise ValueError(f"{item} is not a finite number")
            elif isinstance(item, int):
                if item.bit_length() > max_bits:
                    raise ValueError(f"a whole number of {item.bit_length():,} bits is out of range")
            elif strings and isinstance(item, str) and any("\ud800" <= c <= "\udfff" for c in item):
                raise ValueError(f"text with half a surrogate pair: {shown_name(item)}")
        level = below
