"""The Markdown form: failures first, short enough for a pull-request comment."""

from typing import Any

from theworld_validate.rendering.findings import group_findings
from theworld_validate.rendering.page import flat_environment
from theworld_validate.rendering.tables import describe_measurements, format_cell, tables_of, title_of

MAX_BYTES = 60_000  # GitHub takes 65,536 characters
_FINDINGS_BYTES = 25_000
_CHECKS_BYTES = 20_000


def render_markdown(report: dict[str, Any]) -> str:
    """Render a report as Markdown of at most `MAX_BYTES`; what is left out is named."""
    head = [
        f"# theworld-validate: {report['verdict']}",
        "",
        f"`{report['command']}` at {report['started_at']}, {report['seconds']:.1f} s",
        "",
    ]
    groups = group_findings(report)
    findings = [_finding(finding, like=group[0]) for group in groups for finding in group]
    if findings:
        head += ["## Findings", "", *_within(findings, _FINDINGS_BYTES, "findings", leave_gaps=False), ""]
    head += ["## Checks", "", "| check | status | measured |", "|---|---|---|"]
    order = sorted(report["checks"], key=lambda check: check["status"] == "passed")
    head += _within([_check(check) for check in order], _CHECKS_BYTES, "checks")
    tail = ["", "## Environment", "", "| what | value |", "|---|---|"]
    tail += [f"| {_cell(name)} | {_cell(value)} |" for name, value in flat_environment(report["environment"])]
    tables = [
        "\n".join(["", f"### {check['id']}: {title_of(name)}", "", *_table(rows)])
        for check in report["checks"]
        for name, rows in tables_of(check["measurements"]).items()
    ]
    room = MAX_BYTES - _size([*head, *tail]) - 100
    return "\n".join([*head, *_within(tables, room, "tables"), *tail]) + "\n"


def _size(lines: list[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _within(blocks: list[str], num_bytes: int, what: str, *, leave_gaps: bool = True) -> list[str]:
    """The blocks that fit, and a line that says how many do not; without gaps, none after the first that does not."""
    kept: list[str] = []
    for block in blocks:
        if _size([*kept, block]) <= num_bytes:
            kept.append(block)
        elif not leave_gaps:
            break
    if len(kept) < len(blocks):
        kept += ["", f"{len(blocks) - len(kept)} {what} more are in report.html and report.json."]
    return kept


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _finding(finding: dict[str, Any], *, like: dict[str, Any]) -> str:
    """One finding; cause and remedy only where it is the first of those that share them, which is `like`."""
    warning = "warning: " if finding["severity"] == "warning" else ""
    head = f"- **{finding['check']}**: {warning}{_cell(finding['message'])} (`{finding['code']}`"
    if finding is not like:
        return f"{head}, as above)"
    shared = [f"  - {label}: {_cell(finding[label])}" for label in ("cause", "remedy") if finding[label]]
    return "\n".join([f"{head})", *shared])


def _check(check: dict[str, Any]) -> str:
    detail = check["reason"] or describe_measurements(check["measurements"])
    return f"| {_cell(check['id'])} | {check['status']} | {_cell(detail)} |"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """A table's lines."""
    columns = list(rows[0])
    head = "| " + " | ".join(_cell(title_of(column)) for column in columns) + " |"
    body = ("| " + " | ".join(_cell(format_cell(column, row[column])) for column in columns) + " |" for row in rows)
    return [head, "|" + "---|" * len(columns), *body]
