"""What GitHub Actions shows by itself: the job's summary, and an annotation for each root cause.

In: a report and the environment variables that a GitHub job has. Out: the Markdown form appended to the summary, and
lines on stderr that the runner turns into annotations. Elsewhere nothing is done.
"""

import os
import sys
from pathlib import Path

from theworld_validate.rendering.findings import find_roots, is_about_a_claim
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.plain_text import line, prose
from theworld_validate.rendering.summary import describe_subject, verdict_line, why
from theworld_validate.results import Report, Status

MAX_ANNOTATIONS = 10  # GitHub shows no more of a step and a kind


def tell_github(report: Report) -> None:
    """Fill the job's summary and print annotations, where this is a GitHub job.

    A summary that cannot be written costs a line on stderr, and nothing else.
    """
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            _append(Path(summary), render_markdown(report))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            print(f"GITHUB_STEP_SUMMARY {line(summary)}: not written ({line(reason)})", file=sys.stderr)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for text in annotations(report):
            print(text, file=sys.stderr)


def _append(path: Path, text: str) -> None:
    # Without O_NONBLOCK, a FIFO that nobody reads would be waited for.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def annotations(report: Report) -> list[str]:
    """One workflow command a root cause, errors first, and for a check that is no pass and found no error, its reason.

    Where there is any, one more names the verdict and the subjects. What is refuted of documents is none.
    """
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for root in find_roots(report):
        if is_about_a_claim(root):
            continue
        finding = root.found.finding
        follows = f" (and {len(root.follows):,} that follow from it)" if root.follows else ""
        lines[finding.severity].append(_command(finding.severity, root.found.check, prose(finding.message) + follows))
    for check in report.checks:
        has_error = any(finding.severity == "error" for finding in check.findings)
        if check.status in (Status.FAILED, Status.INCONCLUSIVE, Status.ERROR) and not has_error:
            lines["error"].append(_command("error", check.id, f"{check.status}: {why(check)}"))
    told = [text for kind in lines.values() for text in kind[:MAX_ANNOTATIONS]]
    if not told:
        return []
    subjects = [f"{line(subject.role)}: {describe_subject(subject)}" for subject in report.subjects]
    return [*told, _command("notice", report.command, "\n".join([verdict_line(report), *subjects]))]


def _command(kind: str, title: str, message: str) -> str:
    """A workflow command; the runner reads `%`, line ends, and in properties `:` and `,` from their escapes."""

    def escape(text: str, more: str = "") -> str:
        for character in "%\r\n" + more:
            text = text.replace(character, f"%{ord(character):02X}")
        return text

    return f"::{kind} title={escape(line(title), ':,')}::{escape(message)}"
