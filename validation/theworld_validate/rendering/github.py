"""What GitHub Actions shows by itself: the job's summary, and an annotation for each finding.

In: a report and the environment variables that a GitHub job has. Out: the Markdown form appended to the summary, and
lines on stderr that the runner turns into annotations. Elsewhere nothing is done.
"""

import os
import sys
from pathlib import Path
from typing import Any

from theworld_validate.rendering.markdown import render_markdown

MAX_ANNOTATIONS = 10  # GitHub shows no more of a step and a kind


def tell_github(report: dict[str, Any]) -> None:
    """Fill the job's summary and print annotations, where this is a GitHub job."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(render_markdown(report))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations(report):
            print(line, file=sys.stderr)


def annotations(report: dict[str, Any]) -> list[str]:
    """One workflow command a finding, errors first; a check without findings that is no pass has its reason."""
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for check in report["checks"]:
        for finding in check["findings"]:
            kind = "warning" if finding["severity"] == "warning" else "error"
            lines[kind].append(_command(kind, check["id"], finding["message"]))
        if check["status"] in ("inconclusive", "error") and not check["findings"]:
            lines["error"].append(_command("error", check["id"], f"{check['status']}: {check['reason']}"))
    return [line for kind in lines.values() for line in kind[:MAX_ANNOTATIONS]]


def _command(kind: str, title: str, message: str) -> str:
    def escape(text: str, more: str = "") -> str:
        for character in "%\r\n" + more:
            text = text.replace(character, f"%{ord(character):02X}")
        return text

    return f"::{kind} title={escape(title, ':,')}::{escape(message)}"
