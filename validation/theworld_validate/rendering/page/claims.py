"""The claims of the first implementation notes beside what was measured: a row a claim, those that do not hold first.

In: a report's checks. Out: `Claims`. The notes' mistakes are no warnings of the model, so their findings are here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from theworld_validate.rendering.claims_rows import CHECKS
from theworld_validate.rendering.findings import Found, Root, is_about_a_claim
from theworld_validate.rendering.page.cards import Anchors
from theworld_validate.rendering.plain_text import line, prose
from theworld_validate.rendering.tables import format_cell, is_number, title_of
from theworld_validate.results import Report, Row

VERDICTS = ("refuted", "explained", "holds", "needs a GPU")  # in the order of the page
_STYLES = {"holds": "passed", "explained": "inconclusive", "refuted": "failed"}
_MAX_ROWS = 500
_OWN = ("claim", "verdict", "documented", "measured", "unit", "lines", "says", "explanation", "contradicts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """One claim.

    Args:
        anchor: of the finding about it; "" where there is none.
        more: whatever else the report says of it, by name.
    """

    anchor: str
    name: str
    verdict: str
    style: str
    says: str
    documented: str
    measured: str
    explanation: str
    more: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """All claims, by verdict; `others` are findings about claims that have no row."""

    rows: list[ClaimRow]
    counts: dict[str, int]
    others: list[Root]
    num_left_out: int

    def with_verdict(self, verdict: str) -> list[ClaimRow]:
        """The rows of one verdict."""
        return [row for row in self.rows if row.verdict == verdict]

    @property
    def verdicts(self) -> list[str]:
        """The verdicts that there are, those that say most first."""
        seen = list(dict.fromkeys(row.verdict for row in self.rows))
        return sorted(seen, key=lambda verdict: VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS))


def claims_of(report: Report, roots: Sequence[Root], anchors: Anchors) -> Claims:
    """Read the claims' rows, and give each the anchor of its finding."""
    about = {(root.found.check, root.found.finding.location): root.found for root in roots if is_about_a_claim(root)}
    rows, seen = [], set[tuple[str, str]]()
    found = [
        (check.id, row)
        for check in report.checks
        if check.id.startswith(CHECKS)
        for row in _rows(check.measurements.get("claims"))
    ]
    for check_id, row in found[:_MAX_ROWS]:
        key = (check_id, f"{check_id.removeprefix(CHECKS)}.{row.get('claim')}")
        own = about.get(key) if key not in seen else None
        seen.add(key)
        rows.append(_claim_row(check_id, row, own, anchors))
    return Claims(
        rows=rows,
        counts=dict(Counter(line(row.get("verdict"), 40) for _, row in found)),
        others=[
            root
            for root in roots
            if is_about_a_claim(root) and (root.found.check, root.found.finding.location) not in seen
        ],
        num_left_out=len(found) - len(rows),
    )


def _rows(value: object) -> list[Row]:
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("verdict"), str)]


def _with_unit(row: Row, name: str) -> str:
    """A figure with its unit; what was measured may also be words."""
    value, unit = row.get(name), row.get("unit")
    if isinstance(value, list):
        return ""
    text = format_cell(name, value)
    is_figure = text and (name == "documented" or is_number(value))
    return f"{text} {line(unit, 40)}" if is_figure and isinstance(unit, str) else text


def _claim_row(check_id: str, row: Row, found: Found | None, anchors: Anchors) -> ClaimRow:
    verdict = line(row.get("verdict"), 40)
    texts = {name: format_cell(name, value) for name, value in row.items() if not isinstance(value, list)}
    return ClaimRow(
        anchor="" if found is None else anchors.of(found),
        name=line(f"{check_id.removeprefix(CHECKS)}.{row.get('claim')}"),
        verdict=verdict,
        style=_STYLES.get(verdict, "skipped"),
        says=prose(row.get("says") or ""),
        documented=_with_unit(row, "documented"),
        measured=_with_unit(row, "measured"),
        explanation=prose(row.get("explanation") or ""),
        more=[
            *([("contradicts", texts["contradicts"])] if texts.get("contradicts") else []),
            *((title_of(name), text) for name, text in texts.items() if name not in _OWN and text),
        ],
    )
