"""The terminal's form: what was compared, checks, root causes, and the verdict last; readable without colour.

In: a console, whose width and colours are taken, and a report. Out: its lines, written to the console's file. In a pipe
no line is wrapped or cut to a width, so that a search finds what is written.
"""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from theworld_validate.rendering.claims_rows import describe_claims
from theworld_validate.rendering.findings import Root, find_roots, follows_from, group_roots, is_about_a_claim
from theworld_validate.rendering.plain_text import counted, cut_block, line, prose
from theworld_validate.rendering.summary import (
    describe_libraries,
    describe_plan,
    describe_printed,
    describe_subject,
    likeliest_cause,
    verdict_line,
    why,
    why_not_passed,
)
from theworld_validate.rendering.tables import DIVERGENCE, table_title, tables_of
from theworld_validate.rendering.terminal_causes import print_group
from theworld_validate.rendering.terminal_tables import print_table
from theworld_validate.rendering.terminal_text import encodable, without_commands
from theworld_validate.results import CheckResult, Measurements, Report, Status

if TYPE_CHECKING:
    from rich.console import Console

_MARKS = {
    Status.PASSED: ("green", "pass"),
    Status.FAILED: ("red", "FAIL"),
    Status.SKIPPED: ("dim", "skip"),
    Status.INCONCLUSIVE: ("yellow", "open"),
    Status.ERROR: ("red", "ERR "),
}
_COUNTS = ("tensors_compared", "compared", "module_outputs_compared", "parameters", "changed_buffers")
_TELLING = (*_COUNTS, "about_capacity")
_MANY_ROWS = 32
_MAX_CHECKS = 300
_MAX_ROOTS = 60
_MAX_ID = 40
_MAX_WIDTH = 1_000_000  # of a line in a pipe
_PRINTED_LINES = 5
BARE_COMMAND = "theworld-validate"
_ELSEWHERE = "in the report (--output or --json)"


def print_report(console: "Console", report: Report, *, before_verdict: Callable[[], None] = lambda: None) -> None:
    """Print a report, and flush it, so that a full disk or a closed pipe is an `OSError` here.

    Args:
        console: where to, in its width and colours.
        before_verdict: called when only the last lines are missing: the verdict and its cause.
    """
    body, ending = render_terminal(report, console)
    encoding = getattr(console.file, "encoding", None)
    console.file.write(encodable(body, encoding))
    console.file.flush()
    before_verdict()
    console.file.write(encodable(ending, encoding))
    console.file.flush()


def new_console() -> "Console":
    """A console on stdout: of a terminal's width, and of none in a pipe or file, whose lines are never wrapped.

    A pipe that says by FORCE_COLOR that it is a terminal, and by COLUMNS how wide, is believed.
    """
    import os
    import sys

    from rich.console import Console

    console = Console()
    is_told = console.is_terminal and "COLUMNS" in os.environ
    return console if is_told or sys.stdout.isatty() else Console(width=_MAX_WIDTH)


def render_terminal(report: Report, console: "Console") -> tuple[str, str]:
    """Render a report in a console's width and colours: all before the verdict, and the lines from it on."""
    from rich.console import Console

    own = Console(
        file=io.StringIO(),
        width=console.width,
        force_terminal=console.is_terminal,
        color_system=console.color_system if console.is_terminal else None,  # pyrefly: ignore  # one of its names
        no_color=console.no_color,
        markup=False,
        highlight=False,
        emoji=False,
    )
    roots = find_roots(report)
    texts = []
    for show in (_print_body, _print_verdict):
        with own.capture() as capture:
            show(own, report, roots)
        texts.append(without_commands("\n".join(text.rstrip(" ") for text in capture.get().split("\n"))))
    return texts[0], texts[1]


def _print_body(console: "Console", report: Report, roots: Sequence[Root]) -> None:
    from rich.text import Text

    is_bare = report.command == BARE_COMMAND
    _print_subjects(console, report)
    _print_checks(console, report.checks, follows_from(roots))
    if not is_bare:  # which has too many checks to show everything
        for check in report.checks:
            for table in tables_of(check.measurements):
                title = f"{check.id}: {table_title(table.name)}"
                if len(table.rows) > _MANY_ROWS:
                    console.print(Text(f"\n{line(title)}: {len(table.rows):,} rows, {_ELSEWHERE}"))
                else:
                    print_table(console, title, table)
    _print_roots(console, [root for root in roots if not is_about_a_claim(root)], is_bare=is_bare)
    documented = describe_claims(report)
    if documented is not None:
        more = "; theworld-validate claims quotes each" if is_bare else ""
        console.print(Text(f"\n{documented}{more}"))


def _print_roots(console: "Console", roots: Sequence[Root], *, is_bare: bool) -> None:
    from rich.text import Text

    num_shown = 0
    for group in group_roots(roots):
        if num_shown >= _MAX_ROOTS:
            break
        shown = group[: _MAX_ROOTS - num_shown]
        style, _ = _MARKS[group[0].found.status if group[0].found.is_error else Status.INCONCLUSIVE]
        print_group(console, shown, style=style, is_bare=is_bare)
        num_shown += len(shown)
    if num_shown < len(roots):
        console.print(Text(f"\n{counted(len(roots) - num_shown, 'root cause')} more, {_ELSEWHERE}"))


def _print_subjects(console: "Console", report: Report) -> None:
    """What was typed, what was compared, with which libraries, and what it printed; equal subjects once."""
    from rich.table import Table
    from rich.text import Text

    if report.command_line:
        console.print(Text(f"$ {line(report.command_line, 1000)}", style="dim"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(max_width=_MAX_ID, overflow="fold", style="bold")
    table.add_column(overflow="fold")
    seen: set[tuple[str, str]] = set()
    for subject in report.subjects:
        named = line(subject.role), line(describe_subject(subject), 1000)
        if named not in seen or subject.printed_bytes:
            table.add_row(*map(Text, named))
        seen.add(named)
        if subject.printed_bytes:
            text, _ = cut_block(subject.printed or "", 2000)
            table.add_row(Text(), Text(f"{describe_printed(subject)}; the last lines:", style="dim"))
            for last in text.split("\n")[-_PRINTED_LINES:]:
                table.add_row(Text(), Text(f"| {line(last, 200)}", style="dim"))
    libraries = describe_libraries(report.environment)
    if report.subjects and libraries:
        table.add_row(Text("libraries"), Text(libraries))
    if report.subjects:
        console.print(table)
    plan = describe_plan(report)
    if plan is not None:
        console.print(Text(f"plan: {line(plan, 1000)}", style="dim"))
    if report.command_line or report.subjects or plan is not None:
        console.print()


def _print_checks(console: "Console", checks: Sequence[CheckResult], follows: dict[str, str]) -> None:
    """A line a check.

    Args:
        follows: checks that failed by what another one found, and that one.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=4, no_wrap=True)
    table.add_column(max_width=_MAX_ID, overflow="fold")
    table.add_column(overflow="fold")
    for check in checks[:_MAX_CHECKS]:
        style, mark = _MARKS[check.status]
        detail = why(check, _headline(check.measurements))
        if check.id in follows and not check.reason:
            detail = f"{detail}, all following from {follows[check.id]}"
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


def _print_verdict(console: "Console", report: Report, roots: Sequence[Root]) -> None:
    """The last lines: which checks did not pass and why, the verdict, and its likeliest cause."""
    from rich.text import Text

    console.print()
    for status, text in why_not_passed(report, follows_from(roots)):
        console.print(Text(text, style=_MARKS[status][0]))
    console.print(Text(prose(verdict_line(report)), style=f"bold {_MARKS[report.verdict][0]}"))
    cause = likeliest_cause(report, roots)
    if cause is not None:
        console.print(Text(f"likeliest cause: {cause.cause}"))
        console.print(Text(f"where: {cause.where}"))
