"""The Markdown form: root causes first, short enough for a pull-request comment.

In: a report. Out: Markdown of at most `MAX_BYTES`; what is left out is counted.
"""

from collections.abc import Iterable, Sequence

from theworld_validate.rendering.claims_rows import describe_claims
from theworld_validate.rendering.findings import Root, find_roots, group_roots, is_about_a_claim
from theworld_validate.rendering.markdown_text import cell, code, escape, fenced, sentence
from theworld_validate.rendering.plain_text import counted, cut_block
from theworld_validate.rendering.summary import (
    Likeliest,
    describe_plan,
    describe_printed,
    flat_environment,
    likeliest_cause,
    subject_fields,
    verdict_line,
    why,
)
from theworld_validate.rendering.tables import Table, evidence_of, table_title, tables_of
from theworld_validate.results import CheckResult, Report, Status, SubjectRecord

MAX_BYTES = 60_000  # GitHub takes 65,536 characters
_HEAD_BYTES = 10_000
_FINDINGS_BYTES = 20_000
_CHECKS_BYTES = 15_000
_ENVIRONMENT_BYTES = 5_000
_PRINTED_CHARACTERS = 1_000
_NUM_FOLLOWING = 3  # of each root, that are named


def render_markdown(report: Report) -> str:
    """Render a report as Markdown."""
    roots = [root for root in find_roots(report) if not is_about_a_claim(root)]
    head = _head(report, roots)
    head = _within(head, _HEAD_BYTES, "line", total=len(head))
    if roots:
        blocks = (
            _root(root, is_alone=len(group) == 1, like=group[0]) for group in group_roots(roots) for root in group
        )
        shown = _within(blocks, _FINDINGS_BYTES, "root cause", total=len(roots), leave_gaps=False)
        head += ["", f"## Findings ({counted(len(roots), 'root cause')})", "", *shown]
    documented = describe_claims(report)
    head += ["", f"{escape(documented[:1].upper() + documented[1:])}."] if documented else []
    head += ["", "## Checks", "", "| check | status | measured |", "|---|---|---|"]
    order = sorted(report.checks, key=lambda check: check.status is Status.PASSED)
    head += _within((_check(check) for check in order), _CHECKS_BYTES, "check", total=len(order))
    tail = ["", "## Environment", "", "| what | value |", "|---|---|"]
    lines = [f"| {cell(name)} | {cell(value)} |" for name, value in flat_environment(report.environment)]
    tail += _within(lines, _ENVIRONMENT_BYTES, "value", total=len(lines))
    tables = [(check, table) for check in report.checks for table in tables_of(check.measurements)]
    room = MAX_BYTES - _size([*head, *tail]) - 100
    return "\n".join([*head, *_tables(tables, room), *tail]) + "\n"


def _of_releases(cause: Likeliest) -> str:
    return f", {escape(cause.releases)}" if cause.releases else ""


def _head(report: Report, roots: Sequence[Root]) -> list[str]:
    """The verdict, the likeliest cause, and what was compared."""
    blocks = [f"# theworld-validate: {report.verdict}", "", f"**{escape(verdict_line(report))}**"]
    cause = likeliest_cause(report, roots)
    if cause is not None:
        blocks += ["", f"- likeliest cause: {escape(cause.cause)}"]
        blocks += [f"- where: {code(cause.place)}{_of_releases(cause)}"]
    blocks += ["", f"{code(report.command_line or report.command, 1000)} at {cell(report.started_at)}", ""]
    blocks += [_subject(subject) for subject in report.subjects]
    plan = describe_plan(report)
    if plan is not None:
        blocks.append(f"- plan: {escape(plan)}")
    blocks += [
        "\n".join(["", f"What the {cell(subject.role, 40)} printed last:", "", *fenced(_printed(subject))])
        for subject in report.subjects
        if subject.printed
    ]
    return blocks


def _subject(subject: SubjectRecord) -> str:
    fields = ", ".join(f"{name} {code(value)}" for name, value in subject_fields(subject) if name != "target")
    printed = f"; it {describe_printed(subject)}" if subject.printed_bytes else ""
    return f"- {cell(subject.role, 40)}: {code(subject.target)}, {fields}{printed}"


def _printed(subject: SubjectRecord) -> str:
    text, is_cut = cut_block(subject.printed or "", _PRINTED_CHARACTERS)
    return f"...\n{text}" if is_cut else text


def _root(root: Root, *, like: Root, is_alone: bool) -> str:
    """One root; cause and remedy only where it is the first of those that share them, which is `like`."""
    finding = root.found.finding
    warning = "" if finding.severity == "error" else "warning: "
    head = f"- **{cell(root.found.check)}**: {warning}{sentence(finding.message)} ({code(finding.code)}"
    lines = [f"{head} at {code(finding.location)}{')' if root is like else ', as above)'}"]
    if root is like:
        if is_alone:
            lines += [f"  - {label}: {code(value)}" for label, value in evidence_of(finding)]
        lines += [f"  - cause: {sentence(finding.cause)}"] if finding.cause else []
        lines += [f"  - remedy: {sentence(finding.remedy)}"] if finding.remedy else []
    if root.follows:
        follows = "follows" if len(root.follows) == 1 else "follow"
        lines.append(f"  - {len(root.follows):,} that {follows} from it:")
        lines += [
            f"    - {cell(found.check)}: {sentence(found.finding.message, 200)}"
            for found in root.follows[:_NUM_FOLLOWING]
        ]
        if len(root.follows) > _NUM_FOLLOWING:
            lines.append(f"    - and {len(root.follows) - _NUM_FOLLOWING:,} more")
    return "\n".join(lines)


def _check(check: CheckResult) -> str:
    return f"| {cell(check.id)} | {check.status} | {cell(why(check), 500)} |"


def _tables(tables: Sequence[tuple[CheckResult, Table]], num_bytes: int) -> list[str]:
    """The tables that fit; those that cannot are not rendered."""
    kept: list[str] = []
    room = num_bytes
    for check, table in tables:
        smallest = len(table.rows) * (3 * len(table.columns) + 2)
        block = _table(check, table) if smallest <= room else None
        if block is not None and _size([block]) <= room:
            kept.append(block)
            room -= _size([block])
    return [*kept, *_left_out(len(tables) - len(kept), "table")]


def _table(check: CheckResult, table: Table) -> str:
    lines = ["", f"### {cell(check.id)}: {cell(table_title(table.name))}", ""]
    lines.append("| " + " | ".join(cell(column.title) for column in table.columns) + " |")
    lines.append("|" + "---|" * len(table.columns))
    for row in range(len(table.rows)):
        lines.append("| " + " | ".join(cell(table.cell(row, i)) for i in range(len(table.columns))) + " |")
    return "\n".join(lines)


def _size(lines: Sequence[str]) -> int:
    return sum(len(text.encode()) + 1 for text in lines)


def _within(blocks: Iterable[str], num_bytes: int, what: str, *, total: int, leave_gaps: bool = True) -> list[str]:
    """The blocks that fit, and a line that counts the others; without gaps, none after the first that does not."""
    kept: list[str] = []
    room = num_bytes
    for block in blocks:
        size = _size([block])
        if size <= room:
            kept.append(block)
            room -= size
        elif not leave_gaps:
            break
    return [*kept, *_left_out(total - len(kept), what)]


def _left_out(number: int, what: str) -> list[str]:
    if not number:
        return []
    return ["", f"{counted(number, what)} more {'is' if number == 1 else 'are'} in report.html and report.json."]
