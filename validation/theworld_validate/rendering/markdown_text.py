"""Text of any origin inside Markdown: shown as it is, never interpreted.

In: text. Out: inline Markdown or a fenced block: no raw HTML, link, mention, heading, emphasis or table cell comes of
it, in CommonMark or in GitHub's dialect.
"""

import re

from theworld_validate.rendering.plain_text import line, prose

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_SPECIAL = re.compile(r"[&<>|]|[\\`*\[\]~$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
# What GitHub would link or notify, in characters that mean nothing inside a code span.
_LINKED = re.compile(r"[\w.:/%?=+,;()-]*(?:@|#|://|(?i:www)\.)[\w.:/%?=+,;()@#-]*", re.ASCII)
_PLAIN_CODE = re.compile(r"[^`<>&|]+")
_FENCE = re.compile(r"`{3,}")


def escape(text: str) -> str:
    """One line of printable text as inline Markdown."""
    parts, end = [], 0
    for linked in _LINKED.finditer(text):
        parts += [_SPECIAL.sub(_escape_one, text[end : linked.start()]), f"`{linked[0]}`"]
        end = linked.end()
    return "".join([*parts, _SPECIAL.sub(_escape_one, text[end:])])


def _escape_one(match: "re.Match[str]") -> str:
    return _ENTITIES.get(match[0], f"\\{match[0]}")


def sentence(text: object, limit: int = 1000) -> str:
    """A message, cause, remedy or reason."""
    return escape(prose(text, limit))


def code(text: object, limit: int = 300) -> str:
    """A name or a value: a code span, or escaped text where a span would hold what it cannot."""
    shown = line(text, limit)
    if not shown.strip():
        return "(blank)" if shown else "(empty)"
    if shown.strip() != shown:
        shown = f'"{shown}"'
    return f"`{shown}`" if _PLAIN_CODE.fullmatch(shown) else escape(shown)


def cell(text: object, limit: int = 300) -> str:
    """A cell of a table."""
    return escape(prose(text, limit))


def fenced(text: str) -> list[str]:
    """Lines of printable text as a block of code, in a fence that is longer than any in it."""
    longest = max((len(run) for run in _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}text", *text.split("\n"), fence]
