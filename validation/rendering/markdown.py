"""The Markdown form: failures first, short enough for a pull-request comment."""

from typing import Any

from validation.rendering.console import describe_measurements
from validation.rendering.tables import format_cell, tables_of, title_of


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """A table's lines."""
    columns = list(rows[0])
    head = "| " + " | ".join(_cell(title_of(column)) for column in columns) + " |"
    body = ("| " + " | ".join(_cell(format_cell(column, row[column])) for column in columns) + " |" for row in rows)
    return [head, "|" + "---|" * len(columns), *body]


def render_markdown(report: dict[str, Any]) -> str:
    """Render a report as Markdown."""
    lines = [
        f"# theworld-validate: {report['verdict']}",
        "",
        f"`{report['command']}` at {report['started_at']}, {report['seconds']:.1f} s",
        "",
    ]
    failing = [check for check in report["checks"] if check["findings"]]
    if failing:
        lines += ["## Findings", ""]
    for check in failing:
        for finding in check["findings"]:
            lines.append(f"- **{check['id']}**: {finding['message']} (`{finding['code']}`)")
            lines += [f"  - {label}: {finding[label]}" for label in ("cause", "remedy") if finding[label]]
    if failing:
        lines.append("")
    lines += ["## Checks", "", "| check | status | measured |", "|---|---|---|"]
    for check in report["checks"]:
        detail = check["reason"] or describe_measurements(check["measurements"])
        lines.append(f"| {_cell(check['id'])} | {check['status']} | {_cell(detail)} |")
    for check in report["checks"]:
        for name, rows in tables_of(check["measurements"]).items():
            lines += ["", f"### {check['id']}: {title_of(name)}", "", *_table(rows)]
    lines += ["", "## Environment", "", "| what | value |", "|---|---|"]
    environment = report["environment"]
    flat = {**{k: v for k, v in environment.items() if not isinstance(v, dict)}, **environment.get("packages", {})}
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in flat.items() if value is not None]
    return "\n".join(lines) + "\n"
