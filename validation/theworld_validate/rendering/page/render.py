"""From a report to the page: what each section shows, in the order in which a reader asks.

In: a report. Out: HTML; the same report gives the same text. The templates beside this file lay it out; whatever passes
into them is made printable and is escaped, and the page's own policy lets no script run but its own.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.rendering.findings import Root, find_roots, is_about_a_claim
from theworld_validate.rendering.grid_rows import releases_of_checks
from theworld_validate.rendering.names import anchor_of
from theworld_validate.rendering.page.cards import Room, make_cards
from theworld_validate.rendering.page.claims import claims_of
from theworld_validate.rendering.page.components import components_of
from theworld_validate.rendering.page.evidence import evidence_of
from theworld_validate.rendering.page.grids import grids_of
from theworld_validate.rendering.page.memory import memory_of
from theworld_validate.rendering.page.proof import proof_of, tally_of
from theworld_validate.rendering.page.subjects import glance_of, subjects_of
from theworld_validate.rendering.page.tables import page_tables
from theworld_validate.rendering.plain_text import block, line, prose
from theworld_validate.rendering.summary import (
    describe_compared,
    describe_counts,
    describe_plan,
    flat_environment,
    likeliest_cause,
    why,
)
from theworld_validate.results import CheckResult, Report, Status

_HERE = Path(__file__).parent
_MAX_CHECKS = 2_000
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\+00:00")
# Between the parts of a name, but not within a version: 5.13.0 is one word.
_BREAKS = re.compile(r"(?<=[_/:])(?=\w)|(?<=\.)(?=[^\W\d])|(?<!\d\.)(?<=\.)(?=\d)|(?<=[a-z0-9])(?=[A-Z])")
_OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*")  # which browsers would break after its dashes
_MAX_WHOLE = 44  # characters of a check's id that leave the other columns their room


def render_html(report: Report) -> str:
    """Render a report as one self-contained page."""
    parts = _parts(report)
    sections = [
        ("grids", "Releases", parts["grids"]),
        ("findings", "Causes", parts["errors"].cards),
        ("divergence", "Where it diverges", parts["evidence"]),
        ("others", "Other causes", parts["evidence"] and len(parts["errors"].cards) > 1),
        ("warnings", "Warnings", parts["warnings"].cards),
        ("proof", "In numbers", parts["proof"].figures or parts["proof"].groups),
        ("open", "What was not proved", parts["proof"].open_checks),
        ("compared", "Subjects", parts["plan"] or (parts["subjects"].roles and not parts["subjects"].is_told)),
        ("params", "Parameters", parts["components"] or parts["tables"].params),
        ("memory", "GPU memory", parts["memory"] or parts["tables"].memory),
        ("claims", "First notes' claims", parts["claims"].rows or parts["other_claims"].cards),
        ("checks", "Checks", True),
        ("tables", "Tables", parts["tables"].others),
        ("environment", "Environment", True),
    ]
    text = (
        _templates()
        .get_template("page.html.jinja")
        .render(**parts, sections=[(section, title) for section, title, is_there in sections if is_there])
    )
    return text + "\n"


def _parts(report: Report) -> dict[str, Any]:
    """What the templates are given, by name."""
    roots, room = find_roots(report), Room(releases=releases_of_checks(report))
    claims = claims_of(report, roots, room.anchors)
    of_the_model = [root for root in roots if not is_about_a_claim(root)]
    memory = [part for check in report.checks if (part := memory_of(check)) is not None]
    grids = grids_of(report)
    components = components_of(report)
    drawn = {part.check for part in (*memory, *grids, *components)} | {
        check.id for check in report.checks if claims.rows
    }
    errors = make_cards([root for root in of_the_model if root.is_error], room)
    script, script_digest = _script()
    return {
        "verdict": str(report.verdict),
        "command": line(report.command),
        "command_line": line(report.command_line or report.command, 2_000),
        "started_at": _when(report.started_at),
        "seconds": f"{report.seconds:,.1f}",
        "counts": describe_counts(report),
        "compared": describe_compared(report),
        "tally": tally_of(report),
        "cause": likeliest_cause(report, of_the_model),
        "remedy": _remedy(report, of_the_model),
        "is_told": _is_told(report, of_the_model),
        "glance": glance_of(report),
        "errors": errors,
        "warnings": make_cards([root for root in of_the_model if not root.is_error], room),
        "other_claims": make_cards(claims.others, room),
        "evidence": evidence_of(report),
        "proof": proof_of(report, claims, errors),
        "subjects": subjects_of(report),
        "plan": describe_plan(report),
        "components": components,
        "memory": memory,
        "grids": grids,
        "claims": claims,
        "tables": page_tables(report, drawn),
        "checks": [_check(check) for check in sorted(report.checks, key=_is_dull)[:_MAX_CHECKS]],
        "about_seconds": _about_seconds(report),
        "num_checks_left_out": max(len(report.checks) - _MAX_CHECKS, 0),
        "environment": flat_environment(report.environment),
        "style": _style(),
        "script": script,
        "script_digest": script_digest,
    }


def _when(started_at: str) -> str:
    """A time as people write it; whatever is none, as it is."""
    found = _TIME.fullmatch(started_at)
    return f"{found[1]} {found[2]} UTC" if found else line(started_at)


def _remedy(report: Report, roots: list[Root]) -> str:
    """What mends the likeliest cause; empty where that is not known."""
    if report.verdict is Status.PASSED:
        return ""
    first = next((root for root in roots if root.is_error), None)
    return "" if first is None else prose(first.found.finding.remedy or "", 300)


def _is_told(report: Report, roots: list[Root]) -> bool:
    """Whether the head of the page says all of the first card's cause and remedy."""
    cause, first = likeliest_cause(report, roots), next((root for root in roots if root.is_error), None)
    if cause is None or first is None:
        return False
    finding = first.found.finding
    return cause.cause == prose(finding.cause or "") and _remedy(report, roots) == prose(finding.remedy or "")


def _about_seconds(report: Report) -> str:
    """What the seconds of parity's checks are; earlier versions gave each the same share of the whole."""
    seconds = [check.seconds for check in report.checks if check.id.startswith("parity.") and check.seconds]
    if not seconds:
        return ""
    if len(seconds) > 1 and len(set(seconds)) == 1:
        return "Parity's seconds are equal shares of what observing took: this report does not tell checks apart."
    return "Parity's seconds are what observing took, both sides added up; starting and loading belong to no check."


def _is_dull(check: CheckResult) -> bool:
    return check.status is Status.PASSED


def _check(check: CheckResult) -> dict[str, str]:
    return {
        "id": line(check.id),
        "anchor": anchor_of(check.id),
        "id_style": "id" if len(check.id) <= _MAX_WHOLE else "",
        "status": str(check.status),
        "measured": why(check),
        "seconds": f"{check.seconds:.1f}",
        "exact_seconds": str(check.seconds),
    }


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        """What a template writes, printable; it is escaped after that."""
        return block(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(name: str) -> Any:
    """A name that may be broken between its parts, and within one only where that has a line of its own and more."""
    from markupsafe import Markup, escape

    broken = _BREAKS.sub("<wbr>", str(escape(block(name))))
    return Markup(_OPTION.sub(r'<span class="whole">\g<0></span>', broken))


@cache
def _style() -> Any:
    from markupsafe import Markup

    return Markup((_HERE / "page.css").read_text(encoding="utf-8"))


@cache
def _script() -> tuple[Any, str]:
    """The page's own script, and the digest by which its policy knows it."""
    from markupsafe import Markup

    text = (_HERE / "page.js").read_text(encoding="utf-8")
    return Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
