"""How a text file is written: whole, or not at all; and whether it could be.

In: a path. Out: the file, or an `OSError` and what was there before. A place is tried without leaving a trace.
"""

import contextlib
import os
import tempfile
from pathlib import Path


def check_writable(folder: Path) -> None:
    """Try whether files can be written to a folder, which need not be there; no folder that is made stays.

    Raises:
        OSError, ValueError: if they cannot.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def replace_file(path: Path, text: str) -> None:
    """Put a UTF-8 file into its place in one step; its folder must be there.

    Raises:
        OSError: if it cannot be written; nothing is left behind.
    """
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
