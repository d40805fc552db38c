"""Ctrl-C that is not lost: libraries swallow it where an import or a callback catches everything.

In: a stretch of work. Out: a function that raises the interrupt again, if there was one.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept_interrupts() -> Iterator[Callable[[], None]]:
    """Remember a SIGINT until the block ends; give a function that raises KeyboardInterrupt if there was one.

    Outside the main thread, where Python takes no signals, the function does nothing.
    """
    was_interrupted = False

    def remember(_signal: int, _frame: Any) -> None:
        nonlocal was_interrupted
        was_interrupted = True
        raise KeyboardInterrupt

    def raise_again() -> None:
        if was_interrupted:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield raise_again
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield raise_again
    finally:
        signal.signal(signal.SIGINT, before)
