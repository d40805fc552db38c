"""What is missing because it raised: an exception as one `Failure`, with the place that a person can go to.

In: an exception, and what was being observed. Out: `Failure`, with the last frame that is not the harness's own.
"""

import linecache
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from theworld.checkpoints.error_text import one_line
from theworld_validate.documents.observations import NOT_ASKED, Failure

_HARNESS = str(Path(__file__).resolve().parents[1])
_MAX_ERROR = 500
_MAX_CODE = 200


class CannotAsk(RuntimeError):  # noqa: N818 - what is the case
    """A question that cannot be put to this model: no code of anybody's fails."""


class _Line(NamedTuple):
    file: str
    number: int

    @property
    def code(self) -> str | None:
        return one_line(linecache.getline(self.file, self.number).strip(), _MAX_CODE) or None


def failure_of(error: BaseException, section: str, probe: str | None = None) -> Failure:
    """Say what is missing, and why.

    Args:
        error: what was caught.
        section: of the fingerprint, where the observation is missing.
        probe: which question it was; None where the section is not of probes.
    """
    if isinstance(error, CannotAsk):
        return Failure(section=section, probe=probe, error=one_line(error, _MAX_ERROR), place=NOT_ASKED)
    line = _line_of(error)
    return Failure(
        section=section,
        probe=probe,
        error=describe_error(error),
        place=one_line(f"{line.file}:{line.number}") if line is not None else "unknown",
        code=line.code if line is not None else None,
    )


def describe_error(error: BaseException) -> str:
    """`TypeName: message`, in one line of bounded length."""
    name = one_line(type(error).__name__)
    try:
        message = one_line(" ".join(str(error).split()), _MAX_ERROR)
    except Exception:  # the message is made by whoever wrote the exception's class
        message = "its message cannot be made"
    return f"{name}: {message}" if message else name


def _line_of(error: BaseException) -> _Line | None:
    """The innermost line outside of the harness; the innermost of all where every one is the harness's."""
    lines = list(_lines(error))
    return next((line for line in reversed(lines) if not _is_own(line.file)), lines[-1] if lines else None)


def _lines(error: BaseException) -> Iterator[_Line]:
    traceback = error.__traceback__
    while traceback is not None:
        frame: FrameType = traceback.tb_frame
        yield _Line(frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next


def _is_own(file: str) -> bool:
    return file.startswith(_HARNESS)
