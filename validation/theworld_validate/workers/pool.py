"""Workers: a process for each subject, forked from one server that has torch and transformers imported.

In: jobs. Out: what each delivered, what its subject printed, and how it ended. A worker that ends in any other way
than by saying that it is done has not delivered: exit 0, a signal, exec, a deadline and lost memory are all the same.

Where a library has started CUDA in the server, what is forked from it could use no GPU: workers are then processes that
import everything themselves, which takes each of them some seconds.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

from theworld.checkpoints.error_text import one_line
from theworld_validate.results import InputError, Measurements
from theworld_validate.workers import child
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Answer, Done, Message, Raised, Step, decode
from theworld_validate.workers.timeout import DEFAULT_TIMEOUT_SECONDS

MAX_PRINTED_BYTES = 16_384  # of what a subject prints, half of it from the start and half from the end
_MAX_MESSAGE_BYTES = 2**30
_GRACE_SECONDS = 5.0  # between the last message and the end of the process
_PRELOAD = ["theworld_validate.workers.preload"]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one job.

    Args:
        messages: what it delivered, less steps.
        raised: what it said went wrong; None if it said nothing of the kind.
        ended: how the process ended, in words, where that was not after its last message; None where all is well.
        printed: the text that was printed, cut.
        printed_bytes: how much it was.
        last_step: what it was doing last.
        is_over: whether its process has ended.
    """

    job: Job
    messages: list[Message] = field(default_factory=list)
    raised: Raised | None = None
    ended: str | None = None
    printed: str | None = None
    printed_bytes: int = 0
    seconds: float = 0.0
    last_step: str = "starting"
    is_over: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everything was delivered."""
        return self.raised is None and self.ended is None

    @property
    def values(self) -> Measurements:
        """All values that it answered with; a later one of the same name stands."""
        answers = (message.values for message in self.messages if isinstance(message, Answer))
        return {name: value for answer in answers for name, value in answer.items()}


class Work:
    """Jobs, and the workers that do them.

    Args:
        timeout_seconds: for each job.
        at_once: how many workers may run at the same time.
    """

    def __init__(
        self, jobs: Sequence[Job], *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS, at_once: int = 1
    ) -> None:
        self._workers = [_Worker(job) for job in jobs]
        self._timeout_seconds, self._at_once = timeout_seconds, at_once

    @property
    def outcomes(self) -> list[Outcome]:
        """One outcome a job, in the order of the jobs; whole when `messages` has ended."""
        return [worker.outcome for worker in self._workers]

    def messages(self) -> Generator[tuple[Job, Message], None, None]:
        """Run the jobs, long ones first, and give each message as it comes. Workers are ended when this is left."""
        waiting, running = deque(sorted(self._workers, key=lambda worker: not worker.outcome.job.is_long)), []
        try:
            while waiting or running:
                while waiting and len(running) < self._at_once:
                    running.append(waiting.popleft())
                    running[-1].start(self._timeout_seconds)
                yield from _listen(running)
                running = [worker for worker in running if not worker.is_over()]
        finally:
            for worker in self._workers:
                worker.kill()


def start_server(*, preload: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> bool:
    """Have the fork server import what workers need, while the judge does something else.

    Args:
        preload: modules that it imports before those.
        environment: of it alone, for them.

    Returns:
        Whether it was started: one that is running has imported what it has.
    """
    is_new = _server_pid() is None
    _context(preload)
    resource_tracker.ensure_running()
    os.environ.update(environment or {})
    # It starts with SIGINT blocked: while it imports, it would die of it with a traceback. Nothing is waited for here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _starting():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for name in environment or {}:
            del os.environ[name]
    return is_new


def _server_pid() -> int | None:
    """Of the server that this process has started."""
    pid = getattr(vars(forkserver).get("_forkserver"), "_forkserver_pid", None)
    return pid if isinstance(pid, int) else None


def server_is_running() -> bool:
    """Whether the fork server lives; it is this process's child, and is asked without being waited for."""
    pid = _server_pid()
    if pid is None:
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def end_server() -> None:
    """End the fork server, so that nobody waits for it; it holds nothing. Its socket's folder is removed."""
    if (pid := _server_pid()) is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    folder = vars(multiprocessing.current_process()).get("_config", {}).get("tempdir")
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _context(preload: Sequence[str] = ()) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload, *_PRELOAD])
    return context


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """What multiprocessing must see while it starts a process.

    No script of the user's, which it would run again in every worker; and a working directory, which may be gone.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    here = os.open(".", os.O_RDONLY) if _working_directory() is None else None
    try:
        if here is not None:
            os.chdir("/")
        yield
    except OSError as error:
        if str(error) != "AF_UNIX path too long":
            raise
        folder = one_line(tempfile.gettempdir())
        raise InputError(f"{folder}: too long a path for a socket in it; set TMPDIR to a shorter folder") from error
    finally:
        sys.modules["__main__"] = main
        if here is not None:
            os.fchdir(here)
            os.close(here)


def _working_directory() -> str | None:
    """Where this process is; None if that folder was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


def _listen(workers: "list[_Worker]") -> Iterator[tuple[Job, Message]]:
    """Wait for anything from any worker, and take it."""
    now = time.monotonic()
    nearest = min(worker.deadline for worker in workers) - now
    sources = {source: worker for worker in workers for source in worker.sources()}
    for ready in connection.wait(list(sources), timeout=max(0.0, min(nearest, 3600.0))):
        sources[ready].take(ready)
    for worker in workers:
        worker.check_deadline()
        yield from worker.new_messages()


class _Worker:
    """One process, its pipes and its outcome.

    Attributes:
        forks: whether workers are forked from the server; of all of them, until one says that it cannot be.
    """

    forks = True

    def __init__(self, job: Job) -> None:
        self.outcome = Outcome(job=job)
        self.deadline = float("inf")
        self._process: Any = None
        self._printed = _Printed()
        self._said_done = False
        self._sources: list[Any] = []
        self._timeout = 0.0
        self._new: list[Message] = []

    def start(self, timeout_seconds: float) -> None:
        self._is_forked = _Worker.forks
        context = _context() if self._is_forked else multiprocessing.get_context("spawn")
        self._receive, send = context.Pipe(duplex=False)
        self._output, output = context.Pipe(duplex=False)
        arguments = (
            self.outcome.job, send, output, _working_directory(), list(sys.path), dict(os.environ), self._is_forked
        )  # fmt: skip
        self._process = context.Process(target=child.main, args=arguments, daemon=False)
        if self._is_forked:
            start_server()
        with _starting():
            self._process.start()  # waits for the server's imports
        send.close()
        output.close()
        self._started = time.monotonic()
        self._timeout = timeout_seconds
        self.deadline = self._started + timeout_seconds
        os.set_blocking(self._output.fileno(), False)
        self._sources = [self._receive, self._output, self._process.sentinel]

    def sources(self) -> list[Any]:
        return self._sources

    def new_messages(self) -> Iterator[tuple[Job, Message]]:
        """The messages that came since this was asked last."""
        new, self._new = self._new, []
        for message in new:
            yield self.outcome.job, message

    def is_over(self) -> bool:
        return not self._sources

    def take(self, source: Any) -> None:
        """Take what is ready at one source."""
        if source is self._receive:
            self._take_message()
        elif source is self._output:
            if not self._printed.read(self._output.fileno()):
                self._sources = [s for s in self._sources if s is not self._output]
        elif source in self._sources:
            self._finish()

    def _take_message(self) -> bool:
        """Take one message; return whether there may be more."""
        if self._receive not in self._sources:
            return False
        try:
            message = decode(self._receive.recv_bytes(_MAX_MESSAGE_BYTES))
        except (EOFError, OSError):
            self._sources = [s for s in self._sources if s is not self._receive]
            return False
        except (ValueError, KeyError, TypeError):
            self.outcome.ended = self.outcome.ended or "sent something that is no message of a worker"
            return True
        if isinstance(message, Done):
            self._said_done = True
        elif isinstance(message, Raised):
            self.outcome.raised = message
        elif isinstance(message, Step):
            self.outcome.last_step = message.text
        else:
            self.outcome.messages.append(message)
        if self._said_done or self.outcome.raised:
            self.deadline = min(self.deadline, time.monotonic() + _GRACE_SECONDS)
        self._new.append(message)
        return True

    def check_deadline(self) -> None:
        """End a worker whose time is over."""
        if self._sources and time.monotonic() >= self.deadline:
            if not (self._said_done or self.outcome.raised):
                self.outcome.ended = f"did not finish within {self._timeout:g} s (--timeout)"
            self._signal()
            self._process.join(_GRACE_SECONDS)
            self._finish()

    def _finish(self) -> None:
        """The process is gone: take what is still in its pipes, and say how it ended."""
        while self._receive in self._sources and self._receive.poll():
            if not self._take_message():
                break
        self._printed.read(self._output.fileno())
        self._process.join()
        outcome = self.outcome
        if self._is_forked and self._process.exitcode == child.START_ANEW and outcome.last_step == "starting":
            _Worker.forks = False
            self._close()
            self.start(self._timeout)
            return
        if not self._said_done and outcome.raised is None and outcome.ended is None:
            outcome.ended = _describe_end(self._process.exitcode)
        outcome.printed, outcome.printed_bytes = self._printed.text(), self._printed.num_bytes
        outcome.seconds = time.monotonic() - self._started
        outcome.is_over = True
        self._close()

    def kill(self) -> None:
        """End the process and all that it started; does nothing to one that is over."""
        if self._process is not None and self._sources:
            self._signal()
            self._process.join(_GRACE_SECONDS)
            self._close()

    def _signal(self) -> None:
        for send in (os.killpg, os.kill):  # it may not lead its own group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self._process.pid, signal.SIGKILL)

    def _close(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what the subject started and left
        self._sources = []
        self._receive.close()
        self._output.close()


def _describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    return f"ended its process with exit code {code}"


class _Printed:
    """What a subject prints: the start and the end of it, and how much it was."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._head = bytearray()
        self._tail = bytearray()

    def read(self, descriptor: int) -> bool:
        """Read what is there; return whether more may come."""
        half = MAX_PRINTED_BYTES // 2
        for _ in range(64):
            try:
                data = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self.num_bytes += len(data)
            room = half - len(self._head)
            self._head += data[:room]
            self._tail = (self._tail + data[max(room, 0) :])[-half:]
        return True

    def text(self) -> str | None:
        """The text; None if there is none."""
        if not self.num_bytes:
            return None
        left_out = self.num_bytes - len(self._head) - len(self._tail)
        middle = f"\n[... {left_out:,} bytes left out ...]\n".encode() if left_out else b""
        return (bytes(self._head) + middle + bytes(self._tail)).decode("utf-8", "backslashreplace")
