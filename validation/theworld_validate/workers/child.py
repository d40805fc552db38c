"""The inside of a worker: do one job in a process of its own, and say how it went.

In: a job, a connection to the judge, and a pipe for what the subject prints. Out: messages. The process leads a
session of its own, so that it can be ended with all that it started, and dies with the judge.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from theworld_validate.results import InputError
from theworld_validate.workers.messages import Done, Message, Raised, encode
from theworld_validate.workers.whose_code import frames_of, library_of

_PR_SET_PDEATHSIG = 1
_PRELOAD = "theworld_validate.workers.preload"
START_ANEW = 75  # exit code of a worker that was forked from a process in which CUDA is started
_PACKAGE = str(Path(__file__).parent.parent)
_IMPORTLIB = str(Path(importlib.__file__).parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is to do.

    Args:
        name: who it is for people: "reference", "candidate", "buffers", ...
        function: "module:name" of a generator of messages; modules of this package only.
        arguments: what it is called with: frozen values of this package.
        is_subject: whether it runs a subject's code, so that an error that it raises may be the subject's own.
        threads: how many threads torch may take; None leaves it to torch.
        is_long: whether it is started before the jobs beside it, so that none is left alone at the end.
    """

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    is_subject: bool = False
    threads: int | None = None
    is_long: bool = False


def main(
    job: Job,
    connection: Connection,
    printed: Connection,
    folder: str | None,
    path: list[str],
    environment: dict[str, str],
    is_forked: bool = True,
) -> None:
    """Do the job, and end the process: nothing that a subject left to be done at exit is waited for.

    Args:
        is_forked: from the server, which has imported what is preloaded; else that is imported here.
    """
    if is_forked and getattr(sys.modules.get(_PRELOAD), "CUDA_IS_STARTED", False):
        os._exit(START_ANEW)
    if not is_forked:
        importlib.import_module(_PRELOAD)
    _become_a_worker(printed, folder, path, environment)
    _judge.append(connection)
    _own_process.append(os.getpid())
    code = 1
    try:
        for message in _messages(job):
            say(message)
        code = 0
    except SystemExit as error:  # the judge sees that the last message is missing
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a subject may have closed or replaced it
                stream.flush()
        os._exit(code)


_judge: list[Connection] = []  # where messages go; one in a worker, none elsewhere
_own_process: list[int] = []  # the worker's process id, beside that


def say(message: Message) -> None:
    """Tell the judge something now; outside of a worker nobody hears it.

    A copy of the worker that a subject's `os.fork` made, and that goes on as the worker does, ends here.
    """
    if _own_process and os.getpid() not in _own_process:
        os._exit(1)
    for connection in _judge:
        connection.send_bytes(encode(message))


def _become_a_worker(printed: Connection, folder: str | None, path: list[str], environment: dict[str, str]) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the server has it blocked
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    printed.close()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    _go_to(folder)


def _go_to(folder: str | None) -> None:
    """Work where the judge does; where its folder was deleted, in one that is deleted too, so that it is said."""
    try:
        if folder is not None:
            os.chdir(folder)
            return
    except OSError:
        pass
    gone = tempfile.mkdtemp()
    os.chdir(gone)
    Path(gone).rmdir()


def _messages(job: Job) -> Iterator[Message]:
    try:
        if job.threads is not None:
            import torch

            torch.set_num_threads(job.threads)
        module, _, name = job.function.partition(":")
        work: Callable[..., Iterator[Message]] = getattr(importlib.import_module(module), name)
        yield from work(**job.arguments)
        yield Done()
    except InputError as error:
        yield Raised(kind="input", error=str(error))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # GeneratorExit and the like are a subject's too
        yield _raised(error, is_subject=job.is_subject)


def _raised(error: BaseException, *, is_subject: bool) -> Raised:
    """Say what raised, and whose code it was: the innermost frame of the subject's own, or else of a library's."""
    from theworld.checkpoints.bounded_files import one_line

    told: tuple[str, str | None, str | None] | None = getattr(error, "told", None)
    frames = frames_of(error)
    foreign = [frame for frame in frames if not frame.filename.startswith((_PACKAGE, _IMPORTLIB, "<frozen"))]
    if not foreign and error.__cause__ is not None:  # Python wraps a StopIteration that leaves a generator
        return _raised(error.__cause__, is_subject=is_subject)
    running = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [shown for shown, ran in zip(frames, running, strict=True) if shown in foreign and library_of(ran) is None]
    frame = (own or foreign or frames or [None])[-1]
    place = f"{frame.filename}:{frame.lineno}" if frame is not None else None
    text, code = f"{type(error).__name__}: {error}", frame.line if frame is not None else None
    if told is not None:
        text, place, code = told
    return Raised(
        kind="subject" if is_subject and (foreign or told) else "harness",
        error=one_line(text),
        place=one_line(place) if place else None,
        code=one_line(code) if code else None,
        traceback="".join(traceback.format_exception(error, limit=sys.maxsize))[-20_000:],
    )
