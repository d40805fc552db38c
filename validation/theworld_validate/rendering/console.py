"""The terminal's form: verdict, checks and findings, in 80 columns, readable without colour."""

from typing import TYPE_CHECKING, Any

from theworld_validate.rendering.findings import group_findings
from theworld_validate.rendering.tables import describe_measurements, format_bytes, print_table, sum_compared, tables_of

if TYPE_CHECKING:
    from rich.console import Console

_MARKS = {
    "passed": ("green", "pass"),
    "failed": ("red", "FAIL"),
    "skipped": ("dim", "skip"),
    "inconclusive": ("yellow", "????"),
    "error": ("red", "ERR "),
}
_TELLING = ("tensors_compared", "compared", "module_outputs_compared", "parameters", "changed_buffers")
_MANY_ROWS = 32
BARE_COMMAND = "theworld-validate"


def print_report(console: "Console", report: dict[str, Any]) -> None:
    """Print a report: the checks, the findings with their remedies, and the verdict last."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=4, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in report["checks"]:
        style, mark = _MARKS[check["status"]]
        detail = check["reason"] or describe_measurements(_headline(check["measurements"]))
        table.add_row(Text(mark, style=style), check["id"], Text(detail, style="dim"))
    console.print(table)
    is_bare = report["command"] == BARE_COMMAND
    if not is_bare:  # which has too many checks to show everything
        for check in report["checks"]:
            for name, rows in tables_of(check["measurements"]).items():
                title = f"{check['id']}: {name.replace('_', ' ')}"
                if len(rows) > _MANY_ROWS:
                    console.print(f"\n{title}: {len(rows)} rows, in the report (--output or --json)")
                else:
                    print_table(console, title, rows)
    for group in group_findings(report):
        first = group[0]
        style, _ = _MARKS["inconclusive" if first["severity"] == "warning" else first["check_status"]]
        warning = "warning: " if first["severity"] == "warning" else ""
        console.print()
        for finding in group:
            console.print(Text(f"{finding['check']}: {warning}{finding['message']}", style=style))
        if warning and is_bare:  # one line each: the check's own command says more
            continue
        for label in ("cause", "remedy"):
            if first[label]:
                console.print(Padding(Text(f"{label}: {first[label]}"), (0, 0, 0, 4)))
    console.print()
    style, _ = _MARKS[report["verdict"]]
    console.print(Text(_verdict_line(report), style=f"bold {style}"))


def _headline(measurements: dict[str, Any]) -> dict[str, Any]:
    """What fits on a line: the counts that prove that something was compared, and the sizes."""
    chosen = {name: value for name, value in measurements.items() if name in _TELLING or name.endswith("_bytes")}
    if "divergence_spread" in measurements:  # how the difference grows, a bar a decoder layer
        return {"layers": measurements["divergence_spread"]}
    return chosen or measurements


def _verdict_line(report: dict[str, Any]) -> str:
    checks = report["checks"]
    compared = sum_compared(report)
    passed = sum(check["status"] == "passed" for check in checks)
    line = f"{report['verdict'].upper()}: {passed} of {len(checks)} checks passed"
    if compared["tensors"]:
        line += f"; {compared['tensors']:,} tensors compared bit for bit, {format_bytes(compared['bytes'])} of state"
    return f"{line}, in {report['seconds']:.1f} s"
