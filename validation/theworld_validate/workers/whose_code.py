"""Whose code a line of a traceback is: a library's, or that of what is judged.

In: a frame, and the target that this process loads. Out: the library's name; None for anybody else's code, among it
the subject's own. A library is what is installed: all of site-packages but the subject's own top-level package.
"""

import sys
import traceback
from pathlib import Path
from types import FrameType

PACKAGES = ("torch", "transformers")  # libraries too where they are run from a checkout
_FOLDERS = {"site-packages", "dist-packages"}
_own = {"theworld", "theworld_validate"}  # and the packages of what this process loads


def is_judged(target: str) -> None:
    """Take a target's top-level package for the subject's own code, wherever it is installed."""
    _own.add(target.partition(":")[0].partition(".")[0])


def library_of(frame: FrameType) -> str | None:
    """The library that a frame runs code of; Python's own count as one."""
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package in PACKAGES or package in sys.stdlib_module_names:
        return package
    if package in _own:
        return None
    file = frame.f_globals.get("__file__")  # of the module: what it generates has no file of its own
    is_installed = isinstance(file, str) and not _FOLDERS.isdisjoint(Path(file).parts)
    return package if is_installed else None


def frames_of(error: BaseException) -> traceback.StackSummary:
    """The whole traceback, the outermost frame first, whatever a subject made of `sys.tracebacklimit`."""
    return traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), limit=sys.maxsize)
