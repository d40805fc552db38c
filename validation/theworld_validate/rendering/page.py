"""The HTML form: one file that needs no network, nor JavaScript for anything but sorting and filtering.

In: a report. Out: HTML; the same report gives the same text. The template beside this file lays it out; whatever
passes into it is made printable and is escaped, and the page's own policy lets no script run but its own.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.rendering.findings import find_roots
from theworld_validate.rendering.names import anchor_of
from theworld_validate.rendering.page_cards import make_cards
from theworld_validate.rendering.page_parts import divergence_of, memory_of, page_tables, subjects_of
from theworld_validate.rendering.plain_text import block, line
from theworld_validate.rendering.summary import (
    describe_compared,
    describe_counts,
    describe_plan,
    describe_subject,
    flat_environment,
    likeliest_cause,
    why,
)
from theworld_validate.results import CheckResult, Report, Status

_HERE = Path(__file__).parent
_MAX_CHECKS = 2_000
_MAX_BANNER_SUBJECTS = 4


def render_html(report: Report) -> str:
    """Render a report as one self-contained page."""
    roots = find_roots(report)
    cards = make_cards(roots)
    divergences = [part for check in report.checks if (part := divergence_of(check)) is not None]
    memory = [part for check in report.checks if (part := memory_of(check)) is not None]
    ledgers, tables = page_tables(report)
    subjects, plan = subjects_of(report), describe_plan(report)
    script, script_digest = _script()
    sections = [
        ("findings", "Findings", True),
        ("divergence", "Where it diverges", divergences),
        ("compared", "What was compared", subjects.roles or plan),
        ("checks", "Checks", True),
        ("memory", "GPU memory", memory),
        *((section, title, True) for section, title, _ in ledgers),
        ("tables", "Tables", tables),
        ("environment", "Environment", True),
    ]
    return (
        _template().render(
            verdict=str(report.verdict),
            command=line(report.command),
            command_line=line(report.command_line or report.command, 2_000),
            started_at=line(report.started_at),
            seconds=f"{report.seconds:.1f}",
            counts=describe_counts(report),
            compared=describe_compared(report),
            likeliest_cause=likeliest_cause(report, roots),
            banner_subjects=[
                (line(subject.role), describe_subject(subject)) for subject in report.subjects[:_MAX_BANNER_SUBJECTS]
            ],
            sections=[(section, title) for section, title, is_there in sections if is_there],
            cards=cards,
            divergences=divergences,
            subjects=subjects,
            plan=plan,
            checks=[_check(check) for check in sorted(report.checks, key=_is_dull)[:_MAX_CHECKS]],
            num_checks_left_out=max(len(report.checks) - _MAX_CHECKS, 0),
            memory=memory,
            ledgers=ledgers,
            tables=tables,
            environment=flat_environment(report.environment),
            script=script,
            script_digest=script_digest,
        )
        + "\n"
    )


def _is_dull(check: CheckResult) -> bool:
    return check.status is Status.PASSED


def _check(check: CheckResult) -> dict[str, str]:
    return {
        "id": line(check.id),
        "anchor": anchor_of(check.id),
        "status": str(check.status),
        "measured": why(check),
        "seconds": f"{check.seconds:.1f}",
        "exact_seconds": str(check.seconds),
    }


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        """What the template writes, printable; it is escaped after that."""
        return block(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=finalize)
    return environment.from_string((_HERE / "report.html.jinja").read_text(encoding="utf-8"))


@cache
def _script() -> tuple[Any, str]:
    """The page's own script, and the digest by which its policy knows it."""
    from markupsafe import Markup

    text = (_HERE / "report.js").read_text(encoding="utf-8")
    return Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
