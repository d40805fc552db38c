"""Errors of one clean line, whatever stands in the file or name that they are about.

In: text of any origin. Out: printable text without line breaks, control or bidi characters, of bounded length.
"""

import difflib
from collections.abc import Iterable

MAX_LINE = 600  # characters of one error's text, less the path
_MAX_SHOWN_NAME = 120


def one_line(text: object, limit: int = 300) -> str:
    """Make text printable on one line: control, bidi and other invisible characters escaped, cut at `limit`."""
    shown = str(text)
    clipped = shown[: limit + 1]
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in clipped)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def shown_name(name: object) -> str:
    """A name out of a file (a key, a shard, a field's value), fit for an error's line."""
    return one_line(repr(name) if not isinstance(name, str) else name, _MAX_SHOWN_NAME)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a line about a name that is not known: the known one that is nearest, if one is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else otherwise


def file_error(path: object, what: str, fix: str) -> ValueError:
    """The error that this package raises for a file: one line, with the file, what is wrong and the fix."""
    return ValueError(f"{one_line(path)}: {one_line(what, MAX_LINE)}; {fix}")


def counted(number: int, what: str) -> str:
    """A number and its noun: 1 finding, 2 findings."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def summary(error: BaseException) -> str:
    """A library's error as one clean line."""
    return one_line(" ".join(str(error).split()) or type(error).__name__)


def not_reachable(name: object, error: BaseException) -> ValueError:
    """The error for a name that is no folder here, and that the hub does not answer for."""
    return ValueError(
        f"{one_line(name)}: no such folder, and not to be had from the hub as such a model ({summary(error)}); "
        "give a folder, or a hub id that this machine can reach"
    )
