"""The terminal's form: what was compared, checks, root causes, and the verdict last; readable without colour.

In: a console, whose width and colours are taken, and a report. Out: its lines, written to the console's file.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from theworld_validate.rendering.findings import Root, find_roots, group_roots
from theworld_validate.rendering.plain_text import counted, cut_block, line, prose
from theworld_validate.rendering.summary import (
    describe_plan,
    describe_printed,
    describe_subject,
    likeliest_cause,
    verdict_line,
    why,
)
from theworld_validate.rendering.tables import DIVERGENCE, tables_of
from theworld_validate.rendering.terminal_tables import print_table
from theworld_validate.rendering.terminal_text import encodable, without_commands
from theworld_validate.results import CheckResult, Measurements, Report, Status

if TYPE_CHECKING:
    from rich.console import Console

_MARKS = {
    Status.PASSED: ("green", "pass"),
    Status.FAILED: ("red", "FAIL"),
    Status.SKIPPED: ("dim", "skip"),
    Status.INCONCLUSIVE: ("yellow", "????"),
    Status.ERROR: ("red", "ERR "),
}
_TELLING = ("tensors_compared", "compared", "module_outputs_compared", "parameters", "changed_buffers")
_MANY_ROWS = 32
_MAX_CHECKS = 300
_MAX_ROOTS = 60
_MAX_ID = 40
_NUM_FOLLOWING = 3
_PRINTED_LINES = 5
BARE_COMMAND = "theworld-validate"
_ELSEWHERE = "in the report (--output or --json)"


def print_report(console: "Console", report: Report) -> None:
    """Print a report, and flush it, so that a full disk or a closed pipe is an `OSError` here."""
    text = render_terminal(report, console)
    console.file.write(encodable(text, getattr(console.file, "encoding", None)))
    console.file.flush()


def render_terminal(report: Report, console: "Console") -> str:
    """Render a report in a console's width and colours."""
    from rich.console import Console

    colours = console.color_system if console.is_terminal else None
    own = Console(
        file=io.StringIO(),
        width=console.width,
        force_terminal=console.is_terminal,
        color_system=colours,  # pyrefly: ignore  # one of the names that it takes
        no_color=console.no_color,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with own.capture() as capture:
        _print(own, report)
    return without_commands("\n".join(text.rstrip(" ") for text in capture.get().split("\n")))


def _print(console: "Console", report: Report) -> None:
    from rich.text import Text

    roots = find_roots(report)
    is_bare = report.command == BARE_COMMAND
    _print_subjects(console, report)
    _print_checks(console, report.checks)
    if not is_bare:  # which has too many checks to show everything
        for check in report.checks:
            for table in tables_of(check.measurements):
                title = f"{check.id}: {table.name.replace('_', ' ')}"
                if len(table.rows) > _MANY_ROWS:
                    console.print(Text(f"\n{line(title)}: {len(table.rows):,} rows, {_ELSEWHERE}"))
                else:
                    print_table(console, title, table)
    num_shown = 0
    for group in group_roots(roots):
        if num_shown >= _MAX_ROOTS:
            break
        _print_group(console, group[: _MAX_ROOTS - num_shown], is_bare=is_bare)
        num_shown += len(group[: _MAX_ROOTS - num_shown])
    if num_shown < len(roots):
        console.print(Text(f"\n{counted(len(roots) - num_shown, 'root cause')} more, {_ELSEWHERE}"))
    _print_verdict(console, report, roots)


def _print_subjects(console: "Console", report: Report) -> None:
    """What was typed, what was compared, and what it printed."""
    from rich.table import Table
    from rich.text import Text

    if report.command_line:
        console.print(Text(f"$ {line(report.command_line, 1000)}", style="dim"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(max_width=_MAX_ID, overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for subject in report.subjects:
        table.add_row(Text(line(subject.role)), Text(line(describe_subject(subject), 1000)))
        if subject.printed_bytes:
            text, _ = cut_block(subject.printed or "", 2000)
            table.add_row(Text(), Text(f"{describe_printed(subject)}; the last lines:", style="dim"))
            for last in text.split("\n")[-_PRINTED_LINES:]:
                table.add_row(Text(), Text(f"| {line(last, 200)}", style="dim"))
    if report.subjects:
        console.print(table)
    plan = describe_plan(report)
    if plan is not None:
        console.print(Text(f"plan: {line(plan, 1000)}", style="dim"))
    if report.command_line or report.subjects or plan is not None:
        console.print()


def _print_checks(console: "Console", checks: Sequence[CheckResult]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=4, no_wrap=True)
    table.add_column(max_width=_MAX_ID, overflow="fold")
    table.add_column(overflow="fold")
    for check in checks[:_MAX_CHECKS]:
        style, mark = _MARKS[check.status]
        detail = why(check, _headline(check.measurements))
        table.add_row(Text(mark, style=style), Text(line(check.id)), Text(prose(detail), style="dim"))
    console.print(table)
    if len(checks) > _MAX_CHECKS:
        console.print(Text(f"{counted(len(checks) - _MAX_CHECKS, 'check')} more, {_ELSEWHERE}"))


def _headline(measurements: Measurements) -> Measurements:
    """What fits on a line: the counts that prove that something was compared, and the sizes."""
    chosen = {name: value for name, value in measurements.items() if name in _TELLING or name.endswith("_bytes")}
    if f"{DIVERGENCE}_spread" in measurements:  # how the difference grows, a bar a decoder layer
        return {"layers": measurements[f"{DIVERGENCE}_spread"]}
    return chosen or measurements


def _print_group(console: "Console", group: Sequence[Root], *, is_bare: bool) -> None:
    """Print roots that share cause and remedy, each with how many follow from it."""
    from rich.padding import Padding
    from rich.text import Text

    first = group[0].found
    is_warning = not first.is_error
    style, _ = _MARKS[Status.INCONCLUSIVE if is_warning else first.status]
    console.print()
    for root in group:
        warning = "warning: " if is_warning else ""
        finding = root.found.finding
        at = "" if finding.location in finding.message else f" (at {line(finding.location)})"
        console.print(Text(f"{line(root.found.check)}: {warning}{prose(finding.message)}{at}", style=style))
        if root.follows:
            console.print(Padding(Text(_describe_following(root)), (0, 0, 0, 4)))
    if is_warning and is_bare:  # one line each: the check's own command says more
        return
    for label, text in (("cause", first.finding.cause), ("remedy", first.finding.remedy)):
        if text:
            console.print(Padding(Text(f"{label}: {prose(text)}"), (0, 0, 0, 4)))


def _describe_following(root: Root) -> str:
    named = ", ".join(
        f"{line(found.finding.code, 100)} at {line(found.finding.location, 100)}"
        for found in root.follows[:_NUM_FOLLOWING]
    )
    more = ", ..." if len(root.follows) > _NUM_FOLLOWING else ""
    follows = "follows" if len(root.follows) == 1 else "follow"
    return f"and {len(root.follows):,} that {follows} from it: {named}{more}"


def _print_verdict(console: "Console", report: Report, roots: Sequence[Root]) -> None:
    from rich.text import Text

    style, _ = _MARKS[report.verdict]
    console.print()
    console.print(Text(prose(verdict_line(report)), style=f"bold {style}"))
    cause = likeliest_cause(report, roots)
    if cause is not None:
        console.print(Text(f"likeliest cause: {' at '.join(cause)}"))
