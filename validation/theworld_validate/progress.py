"""Progress on stderr, and interrupts that are not lost.

In: how many steps there are. Out: functions to call with a line before each step; a bar only on a terminal. Ctrl-C
and SIGTERM both end the work as an interrupt.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Where progress goes.

    Args:
        tell: called with a line before each step.
        expect: called with the number of steps still to come.
    """

    tell: Callable[[str], None]
    expect: Callable[[int], None]


class _Bar:
    """A progress bar on stderr, gone when the work is done.

    Work that says nothing of its steps beforehand is counted as it comes: the bar is never full while there is work,
    and what is at its left turns all the time.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._begun = False

    def __enter__(self) -> Steps:
        self._progress.start()
        return Steps(tell=self._tell, expect=self._expect)

    def _expect(self, num_steps: int) -> None:
        task = self._progress.tasks[self._task]
        self._progress.update(self._task, total=max(task.total or 0, task.completed) + num_steps)

    def _tell(self, description: str) -> None:
        task = self._progress.tasks[self._task]
        done = task.completed + int(self._begun)
        total = None if task.total is None else max(task.total, done + 1)
        self._progress.update(self._task, description=description, completed=done, total=total)
        self._begun = True

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Steps]:
    """A context that gives functions to report progress with."""
    if quiet or not sys.stderr.isatty():
        yield Steps(tell=lambda step: None, expect=lambda num_steps: None)
        return
    with _Bar() as steps:
        yield steps


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM, as SIGINT, into a KeyboardInterrupt until the block ends; only the main thread can.

    A signal that whoever started this process has it ignore stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
