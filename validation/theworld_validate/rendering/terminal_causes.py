"""Root causes on a terminal: each with its evidence, cause and remedy, and what follows from it counted.

In: a console, and roots that share cause and remedy. Out: their lines, printed there.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from theworld_validate.rendering.findings import Root
from theworld_validate.rendering.plain_text import counted, line, prose
from theworld_validate.rendering.tables import evidence_of
from theworld_validate.results import Finding

if TYPE_CHECKING:
    from rich.console import Console

_NUM_CHECKS = 12  # that what follows is counted by
_TRACE = "trace"  # the section of a fingerprint that says where outputs first differ


def print_group(console: "Console", group: Sequence[Root], *, style: str, is_bare: bool) -> None:
    """Print roots that share cause and remedy.

    Args:
        is_bare: whether it is the bare command's report, whose warnings have one line each.
    """
    from rich.text import Text

    first = group[0].found
    console.print()
    for root in group:
        finding = root.found.finding
        warning = "" if finding.severity == "error" else "warning: "
        at = "" if finding.location in finding.message else f" (at {line(finding.location)})"
        console.print(Text(f"{line(root.found.check)}: {warning}{prose(finding.message)}{at}", style=style))
        for label, text in _evidence(root):
            print_indented(console, f"{label}: {text}")
    if not first.is_error and is_bare:  # the check's own command says more
        return
    for label, text in (("cause", first.finding.cause), ("remedy", first.finding.remedy)):
        if text:
            print_indented(console, f"{label}: {prose(text)}")


def print_indented(console: "Console", text: str, *, style: str = "") -> None:
    """Print text with a margin, which its wrapped lines have too."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text, style=style), (0, 0, 0, 4), expand=False))


def _evidence(root: Root) -> list[tuple[str, str]]:
    """What a root was seen by, besides its own line: the two values, where outputs first differ, what follows."""
    lines = []
    values = _values(root.found.finding)
    if values and root.is_error:
        lines.append(("measured", values))
    first = next((found.finding for found in root.follows if found.finding.section == _TRACE), None)
    if first is not None:
        lines.append(("outputs differ first", f"{prose(first.message, 300)}"))
    if root.follows:
        lines.append((_following(root), _by_check(root)))
    return lines


def _values(finding: Finding) -> str:
    """Expected and actual, where the message does not say them."""
    said = finding.message
    return ", ".join(
        f"{name} {line(value, 200)}" for name, value in evidence_of(finding) if line(value, 200) not in said
    )


def _following(root: Root) -> str:
    return f"and {len(root.follows):,} that {'follows' if len(root.follows) == 1 else 'follow'} from it"


def _by_check(root: Root) -> str:
    """How many follow in which check, most first no more than fit."""
    counts = Counter(found.check for found in root.follows)
    shown = [f"{number:,} in {line(check, 100)}" for check, number in list(counts.items())[:_NUM_CHECKS]]
    more = len(counts) - _NUM_CHECKS
    return ", ".join([*shown, *([f"and in {counted(more, 'check')} more"] if more > 0 else [])])
