"""How a file of the product's is written: whole, or not at all.

In: a path and its text. Out: the file, or an `InputError` that names it, and what was there before.
"""

import errno
import os
import tempfile
from pathlib import Path

from theworld_validate.results import InputError


def check_place(path: Path, *, option: str) -> None:
    """Refuse, before anything is run, a place where no file can be written. Its folder is made.

    Args:
        option: what named the place, for errors.

    Raises:
        InputError: if it cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is there")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from error


def _unwritable(path: Path, error: Exception, option: str) -> InputError:
    from theworld.checkpoints.error_text import one_line

    reason = one_line((isinstance(error, OSError) and error.strerror) or error)
    return InputError(f"{option} {one_line(path)}: cannot write there ({reason}); name another place")


def write_file(path: Path, text: str, *, option: str) -> None:
    """Write UTF-8 text beside its place first, and then into it.

    Args:
        option: what named the place, for errors.

    Raises:
        InputError: if it cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from error


def replace_file(path: Path, text: str) -> None:
    """Put a file into its place in one step; its folder must be there.

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
