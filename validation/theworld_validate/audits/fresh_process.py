"""A fresh process that imports what everything builds on, and forks for each plan that it is given.

In: plans, which `global_probe` reads. Out: how each fork ended: with what it saw, or in another way. The process may be
started before the plans are known, for its imports take seconds; nothing but torch and Gemma 3's class is in it then.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld_validate.documents.reading import read_json_object
from theworld_validate.results import InputError

_MAX_RESULT_BYTES = 16 * 2**20


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
    """The process; it delivers files, and prints where nobody reads it for a result."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="theworld-globals-", ignore_cleanup_errors=True)
        self._results: dict[str, Path] = {}
        self._began = 0.0
        self._is_over = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "theworld_validate.audits.global_probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def follow(self, plans: Mapping[str, dict[str, Any]]) -> None:
        """Have a fork follow each plan, all at once; once only. Nothing is waited for."""
        assert self._process.stdin is not None
        self._began = time.time()
        self._results = {name: Path(self._scratch.name, f"{index}.json") for index, name in enumerate(plans)}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([[plan, str(self._results[name])] for name, plan in plans.items()]))
            self._process.stdin.close()

    @property
    def is_following(self) -> bool:
        """Whether it was given its plans."""
        return bool(self._results)

    def ends(self, *, timeout_seconds: float) -> dict[str, End]:
        """Wait for all forks.

        Args:
            timeout_seconds: for each, from the moment that it was given its plan.
        """
        left = self._began + timeout_seconds - time.time()
        try:
            code: int | None = self._process.wait(max(left, 0.0))
        except subprocess.TimeoutExpired:
            code = None
        return {name: _read_end(result, code, since=self._began) for name, result in self._results.items()}

    def kill(self) -> None:
        """End the process and all that it started; does nothing the second time."""
        if self._is_over:
            return
        self._is_over = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._scratch.cleanup()


def _read_end(result: Path, code: int | None, *, since: float) -> End:
    """What a fork delivered; or what became of it.

    Args:
        code: of the process that forked; None where it took too long.
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
    if code is None:
        return End(ended="did not finish in time (--timeout)", seconds=seconds)
    ended = f"ended its process with exit code {values.get('ended', code)} before it had delivered"
    return End(ended=ended, seconds=seconds)
