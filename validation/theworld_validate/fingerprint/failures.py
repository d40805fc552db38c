"""What is missing because it raised: an exception as one `Failure`, with the place that a person can go to.

In: an exception, and what was being observed. Out: `Failure`, with the last frame of the model's own code; where none
of it was running, that of the library that raised, and what was called.
"""

import inspect
import linecache
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from theworld.checkpoints.error_text import one_line
from theworld_validate.documents.observations import NOT_ASKED, Failure
from theworld_validate.workers.whose_code import library_of

_HARNESS = str(Path(__file__).resolve().parents[1])
_MAX_ERROR = 500
_MAX_CODE = 200
_REFUSED = re.compile(r"\b(forward|generate)\(\) (got|missing|takes) ")  # as Python says it
_READS_SIGNATURES = "_validate_model_kwargs"  # of transformers' GenerationMixin


class CannotAsk(RuntimeError):  # noqa: N818 - what is the case
    """A question that cannot be put to this model: no code of anybody's fails."""


class _Line(NamedTuple):
    file: str
    number: int
    library: str | None

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
    library = line.library if line is not None else None
    return Failure(
        section=section,
        probe=probe,
        error=describe_error(error),
        place=one_line(f"{line.file}:{line.number}") if line is not None else "unknown",
        code=line.code if line is not None else None,
        library=library,
        called=_called(error) if library is not None and _is_of_arguments(error) else None,
        function=_function(error) if library is not None else None,
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
    """The innermost line of the model's own code; without one, a library's, and where there is none, the harness's."""
    lines = list(_lines(error))
    foreign = [line for line in lines if not _is_own(line.file)]
    own = [line for line in foreign if line.library is None]
    return (own or foreign or lines or [None])[-1]


def _is_of_arguments(error: BaseException) -> bool:
    """Whether a model refused what it was called with: Python does, or `generate`, by forward's signature."""
    if isinstance(error, TypeError):
        return _REFUSED.search(describe_error(error)) is not None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ValueError) and bool(frames) and frames[-1].f_code.co_name == _READS_SIGNATURES


def _function(error: BaseException) -> str | None:
    """The outermost function of a library, by the class that it was called on: `Class.save_pretrained`."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if not _is_own(frame.f_code.co_filename)]
    for frame in frames:
        name = frame.f_code.co_name
        if "self" in frame.f_locals and not name.startswith("_"):  # what is private only leads there
            return one_line(f"{type(frame.f_locals['self']).__name__}.{name}", _MAX_CODE)
    return one_line(frames[0].f_code.co_qualname, _MAX_CODE) if frames else None


def _called(error: BaseException) -> str | None:
    """The outermost model whose methods were running, as `Class.forward(signature)`."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        kind = type(frame.f_locals.get("self"))
        if callable(forward := getattr(kind, "forward", None)):
            try:
                return one_line(f"{kind.__name__}.forward{inspect.signature(forward)}", _MAX_CODE)
            except (TypeError, ValueError):  # a callable that does not say
                return one_line(f"{kind.__name__}.forward")
    return None


def _lines(error: BaseException) -> Iterator[_Line]:
    for frame, number in traceback.walk_tb(error.__traceback__):
        yield _Line(frame.f_code.co_filename, number, library_of(frame))


def _is_own(file: str) -> bool:
    return file.startswith(_HARNESS)
