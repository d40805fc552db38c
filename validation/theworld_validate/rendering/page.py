"""The HTML form: one file that needs no network, nor JavaScript for anything but sorting and filtering.

In: a report. Out: HTML; the same report gives the same text. The template beside this file lays it out; here is
gathered what it shows.
"""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.rendering.findings import group_findings
from theworld_validate.rendering.tables import (
    Row,
    describe_measurements,
    format_bytes,
    format_cell,
    sum_compared,
    tables_of,
    title_of,
)

TEMPLATE = Path(__file__).with_name("report.html.jinja")
_MEMORY_TABLES = {"splits", "phase_peaks"}
_NUM_POINTS = 120
_NUM_OPEN = 3  # of findings that differ in their messages alone; the others are folded


def render_html(report: dict[str, Any]) -> str:
    """Render a report as one self-contained page."""
    finding_groups = [[_finding(finding) for finding in group] for group in group_findings(report)]
    memory = [part for check in report["checks"] if (part := _memory(check)) is not None]
    divergences = [part for check in report["checks"] if (part := _divergence(check)) is not None]
    ledgers, tables = _tables(report)
    statuses = [check["status"] for check in report["checks"]]
    sections = [("findings", "Findings")]
    sections += [("divergence", "Where it diverges")] if divergences else []
    sections += [("checks", "Checks")]
    sections += [("memory", "GPU memory")] if memory else []
    sections += [(section, title) for section, title, _ in ledgers]
    sections += [("tables", "Tables")] if tables else []
    return (
        _template().render(
            report=report,
            counts={status: statuses.count(status) for status in ("passed", "failed")},
            compared=sum_compared(report),
            sections=[*sections, ("environment", "Environment")],
            finding_groups=finding_groups,
            num_open=_NUM_OPEN,
            divergences=divergences,
            memory=memory,
            ledgers=ledgers,
            tables=tables,
            environment=flat_environment(report["environment"]),
        )
        + "\n"
    )


@cache
def _template() -> Any:
    from jinja2 import Environment

    environment = Environment(autoescape=True)
    names: dict[str, Any] = environment.globals
    names.update(
        format_cell=format_cell,
        format_bytes=format_bytes,
        title_of=title_of,
        anchor_of=anchor_of,
        describe=describe_measurements,
        is_number=_is_number,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def anchor_of(check_id: str) -> str:
    """A check's anchor."""
    return "check-" + re.sub(r"[^\w.-]", "-", check_id)


def finding_anchor(check_id: str, finding: dict[str, Any]) -> str:
    """A finding's anchor: the same in every report that has this finding."""
    key = "\n".join((check_id, finding["code"], finding["location"]))
    return f"finding-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def flat_environment(environment: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and values, packages among them; what is not there is left out."""
    plain = {name: value for name, value in environment.items() if not isinstance(value, dict)}
    return [(name, value) for name, value in (plain | environment.get("packages", {})).items() if value is not None]


def _finding(finding: dict[str, Any]) -> dict[str, Any]:
    """A finding, its anchors and its style."""
    return {
        **finding,
        "check_anchor": anchor_of(finding["check"]),
        "anchor": finding_anchor(finding["check"], finding),
        "style": "warning" if finding["severity"] == "warning" else finding["check_status"],
    }


def _divergence(check: dict[str, Any]) -> dict[str, Any] | None:
    spread = check["measurements"].get("divergence")
    if not spread:
        return None
    rows = list(zip(spread["modules"], spread["outputs"], spread["differing"], strict=True))
    return {"check": check["id"], "rows": rows, "first": next(module for module, _, differing in rows if differing)}


def _memory(check: dict[str, Any]) -> dict[str, Any] | None:
    """Stacked bars of a memory check: who owns the bytes at the peak, the phases' peaks, and the step's course."""
    rows = check["measurements"].get("splits")
    if not rows:
        return None
    kinds = [column for column in rows[0] if column.endswith("_bytes")]
    workload = [name for name in ("batch", "text_tokens", "world_tokens") if name in rows[0]]
    common = [name for name in workload if len({row[name] for row in rows}) == 1]
    highest = max(sum(row[kind] for kind in kinds) for row in rows)
    key = ("configuration", *workload)
    phases = {tuple(row[name] for name in key): row for row in check["measurements"].get("phase_peaks", [])}
    courses = {tuple(row[name] for name in key): row["bytes"] for row in check["measurements"].get("timelines", [])}
    bars = []
    for row in rows:
        at = tuple(row[name] for name in key)
        own = [f"{title_of(name)} {row[name]:,}" for name in workload if name not in common]
        bars.append(
            {
                "label": ", ".join([row["configuration"], *own]),
                "total": sum(row[kind] for kind in kinds),
                "shares": [100 * row[kind] / highest for kind in kinds],
                "aria": ", ".join(f"{title_of(kind)} {format_bytes(row[kind])}" for kind in kinds),
                "phases": _describe_phases(phases.get(at, {})),
                "path": _path(courses.get(at, [])),
            }
        )
    return {
        "check": check["id"],
        "kinds": kinds,
        "bars": bars,
        "workload": ", ".join(f"{title_of(name)} {rows[0][name]:,}" for name in common),
    }


def _describe_phases(row: Row) -> str:
    peaks = [(title_of(name), value) for name, value in row.items() if name.endswith("_bytes") and value]
    return "peaks: " + ", ".join(f"{name} {format_bytes(value)}" for name, value in peaks) if peaks else ""


def _path(values: list[int]) -> str:
    """An area in a box of 100 x 20, the peak at its top."""
    if len(values) < 2:
        return ""
    every = max(len(values) // _NUM_POINTS, 1)
    thinned = [max(values[i : i + every]) for i in range(0, len(values), every)]
    points = [
        f"{100 * i / (len(thinned) - 1):.1f},{20 - 20 * value / max(thinned):.2f}" for i, value in enumerate(thinned)
    ]
    return f"M0,20 L{' L'.join(points)} L100,20 Z"


def _tables(report: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The tables that have a section of their own, and the others."""
    own: dict[str, list[Any]] = {"params": [], "claims": []}
    others = []
    for check in report["checks"]:
        for name, rows in tables_of(check["measurements"]).items():
            if name in _MEMORY_TABLES:
                continue
            own.get(check["id"].split(".")[0], others).append((check["id"], name, rows))
    titles = {"params": "Parameters", "claims": "Documented claims"}
    return [(section, titles[section], parts) for section, parts in own.items() if parts], others


def _is_number(rows: list[Row], column: str) -> bool:
    return any(isinstance(row[column], (int, float)) and not isinstance(row[column], bool) for row in rows)
