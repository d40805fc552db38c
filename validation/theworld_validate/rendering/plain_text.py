"""Text of any origin, made fit to be shown: printable, and of bounded length.

In: names, messages, paths, what a subject printed. Out: text without control, bidi or other invisible characters and
without lone surrogates, all of which are written as escapes. Each form adds the escaping of its own syntax.
"""

from theworld.checkpoints.error_text import counted, one_line  # noqa: F401 - each form takes both from here

MAX_PROSE = 1000  # characters of a message, cause or remedy
MAX_NAME = 300


def line(text: object, limit: int = MAX_NAME) -> str:
    """A name or a value, exactly: what is not printable is escaped, line breaks too."""
    shown = str(text)
    return shown if len(shown) <= limit and shown.isprintable() else one_line(shown, limit)


def prose(text: object, limit: int = MAX_PROSE) -> str:
    """A sentence, on one line: line breaks and tabs become spaces."""
    return line(" ".join(str(text).split()), limit)


def block(text: str) -> str:
    """Text of several lines, whatever ends them; tabs become spaces."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ").split("\n")
    return "\n".join(line(part, 10 * len(part) + 10) for part in lines)


def cut_block(text: str, limit: int) -> tuple[str, bool]:
    """The end of a text of several lines, where errors are, and whether something before it was cut."""
    shown = block(text[-limit:]).strip("\n")
    return shown, len(text) > limit
