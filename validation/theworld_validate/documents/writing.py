"""How a file of the product's is written: whole, or not at all.

In: a path and its text. Out: the file, or an `InputError` that names it, and what was there before.
"""

import errno
from pathlib import Path

from theworld.checkpoints.written_files import check_writable, replace_file
from theworld_validate.results import InputError


def check_place(path: Path, *, option: str) -> None:
    """Refuse, before anything is run, a place where no file can be written; no folder is made.

    Args:
        option: what named the place, for errors.

    Raises:
        InputError: if it cannot be written to.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is there")
        check_writable(path.parent)
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
