"""Observing processes: one a release, on that release's own Python path.

In: requests, each with its overlay. Out: for each its answer, or how the process ended without one. A process that
ends in any other way than by leaving its answer has failed, whatever its exit code is.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from theworld.checkpoints.error_text import one_line
from theworld_validate.releases.environments import Overlay
from theworld_validate.releases.requests import Answer, Request, read_answer, write_request
from theworld_validate.results import InputError

_SERVER = "theworld_validate.releases.forking"
_POLL_SECONDS = 0.05
_READ_BYTES = 65_536
_SAID_BYTES = 4_000  # of what a process printed last, for saying why it ended
# Nothing of these is to reach a release but what is set here.
_OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONSAFEPATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A request, and the release that is to do it; `name` is for people and for files."""

    name: str
    overlay: Overlay
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a task.

    Args:
        seconds: from its start to its end, beside whatever else the machine did.
        processor_seconds: what it took of processors; None where it was not told.
    """

    answer: Answer
    seconds: float
    processor_seconds: float | None = None


class Server:
    """The process that forks observing processes, from the judge's side; it imports torch while others go on.

    Args:
        folder: where what it prints is put.
    """

    def __init__(self, folder: Path) -> None:
        self._said = folder / "server.txt"
        self._read = b""
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", _SERVER],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,
            )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it; it ends what still runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def tell(self, **command: str) -> None:
        """Send a command; one that has ended hears nothing, and `messages` says so."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it has said since, after a moment; `{"over": WHY}` where it has ended."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _POLL_SECONDS)[0]:
            return
        read = os.read(self._process.stdout.fileno(), _READ_BYTES)
        if not read:
            yield {"over": f"the server of processes {_how_it_ended(self._process.wait(), self._said)}"}
            return
        *lines, self._read = (self._read + read).split(b"\n")
        yield from (json.loads(line) for line in lines)


class _Running:
    """One task that was started."""

    def __init__(self, task: Task, folder: Path, server: Server) -> None:
        self._task, self._server, self._said = task, server, folder / f"{task.name}.txt"
        request = folder / f"{task.name}.request.json"
        write_request(task.request, request)
        self.started = time.perf_counter()
        self._late_after: float | None = None
        server.tell(start=task.name, request=str(request), site=str(task.overlay.site), said=str(self._said))

    def end_if_late(self, timeout_seconds: float) -> None:
        """End one that takes too long."""
        if self._late_after is None and time.perf_counter() - self.started > timeout_seconds:
            self._late_after = timeout_seconds
            self._server.tell(kill=self._task.name)

    def result(self, code: int, processor_seconds: float) -> Done:
        """What it left behind."""
        seconds = time.perf_counter() - self.started
        if self._late_after is not None:
            why = f"it took more than {self._late_after:g} seconds and was ended; --timeout gives it more"
            return Done(answer=Answer(failure=why), seconds=seconds, processor_seconds=processor_seconds)
        try:
            answer = read_answer(Path(self._task.request.answer))
        except InputError:
            why = f"its process {_how_it_ended(code, self._said, 'before it had answered')}"
            answer = Answer(failure=why)
        return Done(answer=answer, seconds=seconds, processor_seconds=processor_seconds)


def _how_it_ended(code: int, printed: Path, when: str = "before it was asked to") -> str:
    how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
    said = printed.read_bytes()[-_SAID_BYTES:].decode("utf-8", "replace").strip().splitlines()
    last = f"; it said last: {one_line(said[-1])}" if said else ""
    return f"{how} {when}{last}"


def run_tasks(
    tasks: Sequence[Task],
    folder: Path,
    *,
    timeout_seconds: float,
    at_once: int,
    progress: Callable[[str], None] = lambda line: None,
    server: Server | None = None,
) -> dict[str, Done]:
    """Run tasks, some at a time.

    Args:
        folder: where requests and what is printed are put.
        at_once: how many processes may run at the same time.
        server: one that is running already; by default one for these tasks alone.

    Returns:
        What became of each, by its name.
    """
    if not tasks:
        return {}
    if server is None:
        with Server(folder) as own:
            return run_tasks(
                tasks, folder, timeout_seconds=timeout_seconds, at_once=at_once, progress=progress, server=own
            )
    waiting = deque(tasks)
    running: dict[str, _Running] = {}
    done: dict[str, Done] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                task = waiting.popleft()
                progress(task.name)
                running[task.name] = _Running(task, folder, server)
            for said in server.messages():
                if "over" in said:
                    lost = Done(answer=Answer(failure=said["over"]), seconds=0.0)
                    return {**dict.fromkeys((*running, *(task.name for task in waiting)), lost), **done}
                if "started" in said:
                    running[said["started"]].started = time.perf_counter()
                elif said["ended"] in running:
                    name = said["ended"]
                    done[name] = running.pop(name).result(said["code"], said["processor_seconds"])
            for process in running.values():
                process.end_if_late(timeout_seconds)
    finally:
        for name in running:
            server.tell(kill=name)
    return done


def _environment() -> dict[str, str]:
    """What processes see: what this process sees, and no network; a release's folder is put before it there.

    Python's `site` is left out (-S), so that nothing that an installed package runs at start sees a release first.
    """
    path = [str(Path(entry or ".").absolute()) for entry in sys.path]
    own = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    return {
        **own,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "THEWORLD_AUTO_CLASSES": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
