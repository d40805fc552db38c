"""A fresh process that imports what everything builds on, and forks for each plan that it is given.

In: plans, which `global_probe` reads. Out: how each fork ended: with what it saw, or in another way. The process may be
started before the plans are known, for its imports take seconds; nothing but torch and Gemma 3's class is in it then.
Where workers will be forked too, it is a fork of their server, from before that imports anything of theworld's.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld_validate.audits.global_probe import ADDRESS
from theworld_validate.documents.reading import read_json_object
from theworld_validate.results import InputError
from theworld_validate.workers.pool import server_is_running, start_server

_MAX_RESULT_BYTES = 16 * 2**20
_FORKING = ("theworld_validate.workers.preload_libraries", "theworld_validate.audits.fork_fresh")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a fork ended: with what it saw, with an error of what it ran or of the input, or in another way.

    Args:
        seconds: from the moment that it was given its plan.
    """

    stages: list[dict[str, Any]] | None = None
    wrong_input: str | None = None
    error: str | None = None
    ended: str = ""
    seconds: float = 0.0


class FreshProcess:
    """The process; it delivers files, and prints where nobody reads it for a result.

    Args:
        begins_server: start the workers' server with it, with these modules to preload besides; None for a process of
            its own, which it also is where there is a server already.
    """

    def __init__(self, *, begins_server: tuple[str, ...] | None = None) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="theworld-globals-", ignore_cleanup_errors=True)
        self._results: dict[str, Path] = {}
        self._plans = b""
        self._began = 0.0
        self._is_over = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._pid: int | None = None
        address = str(Path(self._scratch.name, "judge"))
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(address)
        except OSError as error:
            self.kill()
            raise InputError(f"{tempfile.gettempdir()}: {error}; set TMPDIR to a shorter folder") from error
        self._listener.listen(1)
        if begins_server is None or not start_server(
            preload=(*_FORKING, *begins_server), environment={ADDRESS: address}
        ):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "theworld_validate.audits.global_probe", address],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._pid = self._process.pid

    def follow(self, plans: Mapping[str, dict[str, Any]]) -> None:
        """Have a fork follow each plan, all at once; once only. A process that is still importing is not waited for."""
        self._began = time.time()
        self._results = {name: Path(self._scratch.name, f"{index}.json") for index, name in enumerate(plans)}
        self._plans = json.dumps([[plan, str(self._results[name])] for name, plan in plans.items()]).encode()
        self._hand_over(until=0.0)

    @property
    def is_following(self) -> bool:
        """Whether it was given its plans."""
        return bool(self._results)

    def ends(self, *, timeout_seconds: float) -> dict[str, End]:
        """Wait for all forks.

        Args:
            timeout_seconds: for each, from the moment that it was given its plan.
        """
        until = self._began + timeout_seconds
        is_over = self._hand_over(until=until) and self._is_closed(until)
        ended = self._how_it_ended() if is_over else "did not finish in time (--timeout)"
        return {name: _read_end(result, ended, since=self._began) for name, result in self._results.items()}

    def kill(self) -> None:
        """End the process and all that it started; does nothing the second time."""
        if self._is_over:
            return
        self._is_over = True
        self._accept(seconds=0.0)  # to know its process id; one that comes later finds nobody, and ends
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._listener.close()
        self._scratch.cleanup()

    def _accept(self, *, seconds: float) -> bool:
        """Take its connection, and its process id; return whether it is there."""
        if self._connection is None:
            self._listener.settimeout(seconds)
            with contextlib.suppress(OSError):
                self._connection, _ = self._listener.accept()
                self._connection.settimeout(5.0)
                line = self._connection.makefile("rb", buffering=0).readline()
                self._pid = int(line) if line else self._pid  # it may have ended before its first word
        return self._connection is not None

    def _hand_over(self, *, until: float) -> bool:
        """Give it its plans, if it is there by then; return whether it was, or has ended before."""
        while not self._accept(seconds=min(max(until - time.time(), 0.0), 0.2)):
            if self._is_gone():
                return True
            if time.time() >= until:
                return False
        assert self._connection is not None
        if self._plans:
            with contextlib.suppress(OSError):  # it has ended, which is seen next
                self._connection.sendall(self._plans)
                self._connection.shutdown(socket.SHUT_WR)
            self._plans = b""
        return True

    def _is_gone(self) -> bool:
        """Whether nobody will come any more: what was started has ended, or the server that was to fork it."""
        return not server_is_running() if self._process is None else self._process.poll() is not None

    def _is_closed(self, until: float) -> bool:
        """Whether it closes the connection, by its end at the latest, before a time."""
        if self._connection is None:
            return True
        try:
            self._connection.settimeout(max(until - time.time(), 0.001))
            return not self._connection.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    def _how_it_ended(self) -> str:
        if self._process is None:
            return "was ended before it had delivered"
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "did not end after its last word"
        return _ended_with(code)


def _ended_with(code: object) -> str:
    return f"ended its process with exit code {code} before it had delivered"


def _read_end(result: Path, ended: str, *, since: float) -> End:
    """What a fork delivered; or what became of it.

    Args:
        ended: what became of the process that forked.
    """
    try:
        values = read_json_object(result, max_bytes=_MAX_RESULT_BYTES)
        seconds = max(result.stat().st_mtime - since, 0.0)
    except (InputError, OSError):
        values, seconds = {}, max(time.time() - since, 0.0)
    if "input" in values:
        return End(wrong_input=str(values["input"]), seconds=seconds)
    if "error" in values:
        return End(error=str(values["error"]), seconds=seconds)
    if "stages" in values:
        return End(stages=values["stages"], seconds=seconds)
    if "ended" in values:
        ended = _ended_with(values["ended"])
    return End(ended=ended, seconds=seconds)
