"""What a terminal and the log of a CI job take for commands, taken out of all that is to be printed.

In: printed lines, wrapped and made of printable text. Out: the same, of the same width, such that a CI runner obeys
none of it and a stream of any encoding takes it.
"""

import re

# GitHub's runner obeys `::name::` at the start of a line, after any blanks, and `##[name]` anywhere.
_COMMAND_AT_START = re.compile(r"^((?:\x1b\[[0-9;]*m|[ \t])*):(?=:)", re.MULTILINE)


def without_commands(printed: str) -> str:
    """Lines of which none is, or holds, a command: a backslash takes the place of one of its characters."""
    return _COMMAND_AT_START.sub(r"\1\\", printed).replace("##[", "#\\[")


def encodable(printed: str, encoding: str | None) -> str:
    """Text that a stream of some encoding takes; characters that it lacks are escaped."""
    name = encoding or "utf-8"
    return printed.encode(name, "backslashreplace").decode(name)
