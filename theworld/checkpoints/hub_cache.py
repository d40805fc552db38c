"""The hub cache's own checksums: a file's blob is named by the hash of its content.

In: a folder whose files are symbolic links into a `blobs` folder. Out: which files are not what their names say. Large
files are named by their SHA-256, small ones by git's SHA-1 of a blob.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from theworld.checkpoints.bounded_files import open_regular

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobCheck:
    """Files of a folder against the checksums that the hub's cache names them by.

    Args:
        checked: names of the files that lie in a cache.
        damaged: those whose content is another one than their checksum says.
    """

    checked: tuple[str, ...]
    damaged: tuple[str, ...]


def verify_blobs(folder: Path, names: tuple[str, ...] | None = None) -> BlobCheck:
    """Check the files of a folder that are links into a hub cache; others have no checksum and are left out.

    Args:
        names: files to check; all by default. Each is read as a whole.

    Raises:
        ValueError: if a file cannot be read.
    """
    checked, damaged = [], []
    for path in sorted(folder.iterdir()) if names is None else [folder / name for name in names]:
        blob = path.resolve()
        if not path.is_symlink() or blob.parent.name != "blobs":
            continue
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            checked.append(path.name)
            if _checksum(path, sha256=len(blob.name) == 64) != blob.name:
                damaged.append(path.name)
    return BlobCheck(checked=tuple(checked), damaged=tuple(damaged))


def _checksum(path: Path, *, sha256: bool) -> str:
    with open_regular(path) as (file, size):
        digest = hashlib.sha256() if sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
