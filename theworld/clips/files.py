"""Clip files: one reader for `.npy`, `.npz` and videos, told apart by their first bytes.

In: a path, or a file's bytes. Out: an array, or word that it is a video. No pickle is ever opened.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from theworld.checkpoints.bounded_files import open_regular
from theworld.checkpoints.error_text import one_line, summary

_NPY, _ZIP = b"\x93NUMPY", b"PK"


def name_of(source: Path | bytes) -> str:
    """What errors call a source: its path, or what it is."""
    return f"a file of {len(source):,} bytes" if isinstance(source, bytes) else one_line(source)


@contextmanager
def open_source(source: Path | bytes) -> Iterator[BinaryIO]:
    """Open a file, or the bytes of one.

    Raises:
        ValueError: if there is no such file, or it is none; one line that names it.
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        with open_regular(source) as (file, _):
            yield file


def read_array(source: Path | bytes) -> np.ndarray | None:
    """Read the array of an `.npy` file, or the only one of an `.npz` file; None for a file of another kind.

    Raises:
        ValueError: if it cannot be read, is empty, or holds no such array; one line that names it.
    """
    name = name_of(source)
    with open_source(source) as file:
        first = file.read(len(_NPY))
        if not first:
            raise ValueError(f"{name}: empty; give a clip's file")
        if not (first == _NPY or first.startswith(_ZIP)):
            return None
        file.seek(0)
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if len(loaded.files) != 1:
                raise ValueError(f"holds {len(loaded.files)} arrays, and one is a clip")
            return loaded[loaded.files[0]]
        except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise ValueError(f"{name}: no clip of numbers that can be read ({summary(error)})") from error
