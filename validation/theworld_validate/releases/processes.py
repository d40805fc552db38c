"""Observing processes: one a release, on that release's own Python path.

In: requests, each with its overlay. Out: for each its answer, or how the process ended without one. A process that
ends in any other way than by leaving its answer has failed, whatever its exit code is.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from theworld.checkpoints.error_text import one_line
from theworld_validate.releases.environments import Overlay
from theworld_validate.releases.requests import Answer, Request, read_answer, write_request
from theworld_validate.results import InputError

_MODULE = "theworld_validate.releases.observe"
_POLL_SECONDS = 0.05
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
    """What became of a task."""

    answer: Answer
    seconds: float


class _Process:
    """One running task."""

    def __init__(self, task: Task, folder: Path) -> None:
        self._answer, self._said = Path(task.request.answer), folder / f"{task.name}.txt"
        request = folder / f"{task.name}.request.json"
        write_request(task.request, request)
        self._started = time.perf_counter()
        self._late_after: float | None = None
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", _MODULE, str(request)],
                env=_environment(task.overlay),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_over(self, timeout_seconds: float) -> bool:
        """Whether it has ended; one that takes too long is ended."""
        if self._process.poll() is None and self._seconds() > timeout_seconds:
            self.kill()
            self._late_after = timeout_seconds
            return True
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it, with all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def result(self) -> Done:
        """What it left behind."""
        if self._late_after is not None:
            why = f"it took more than {self._late_after:g} seconds and was ended; --timeout gives it more"
            return Done(answer=Answer(failure=why), seconds=self._seconds())
        try:
            answer = read_answer(self._answer)
        except InputError:
            answer = Answer(failure=self._how_it_ended())
        return Done(answer=answer, seconds=self._seconds())

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
        said = self._said.read_bytes()[-_SAID_BYTES:].decode("utf-8", "replace").strip().splitlines()
        last = f"; it said last: {one_line(said[-1])}" if said else ""
        return f"its process {how} before it had answered{last}"


def run_tasks(
    tasks: Sequence[Task],
    folder: Path,
    *,
    timeout_seconds: float,
    at_once: int,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Done]:
    """Run tasks, some at a time.

    Args:
        folder: where requests and what is printed are put.
        at_once: how many processes may run at the same time.

    Returns:
        What became of each, by its name.
    """
    waiting, running, done = deque(tasks), {}, {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                task = waiting.popleft()
                progress(task.name)
                running[task.name] = _Process(task, folder)
            time.sleep(_POLL_SECONDS)
            for name in [name for name, process in running.items() if process.is_over(timeout_seconds)]:
                done[name] = running.pop(name).result()
    finally:
        for process in running.values():
            process.kill()
    return done


def _environment(overlay: Overlay) -> dict[str, str]:
    """What a process sees: the overlay first, then what this process sees; and no network.

    Python's `site` is left out (-S), so that nothing that an installed package runs at start sees a release first.
    """
    path = [str(overlay.site), *(str(Path(entry or ".").absolute()) for entry in sys.path)]
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
