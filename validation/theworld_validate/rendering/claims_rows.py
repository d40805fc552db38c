"""The claims of the first implementation notes in a report: what became of each, and all of them in one line.

In: a report, whose checks `claims.*` hold a row a claim. Out: counts by verdict, and a sentence. A claim that is
refuted says something of the notes, and nothing of the model: it is no warning of the model.
"""

from collections import Counter

from theworld_validate.results import Report

NOTES = "the first implementation notes"  # the document's one name; nobody needs it, for claims.toml has its figures
CHECKS = "claims."  # what the checks of its claims are named
REFUTED = "claims.refuted"  # the finding of a claim that does not hold, as its release records
_WORDS = {
    "holds": ("holds", "hold"),
    "explained": ("is explained", "are explained"),
    "refuted": ("is refuted", "are refuted"),
    "needs a GPU": ("needs a GPU", "need a GPU"),
}


def count_claims(report: Report) -> Counter[str]:
    """How many claims have which verdict."""
    counts: Counter[str] = Counter()
    for check in report.checks:
        rows = check.measurements.get("claims")
        if check.id.startswith(CHECKS) and isinstance(rows, list):
            counts.update(str(row.get("verdict")) for row in rows if isinstance(row, dict))
    return counts


def describe_claims(report: Report) -> str | None:
    """All claims in one line, with whose they are; None where a report has none."""
    counts = count_claims(report)
    parts = [f"{counts[verdict]} {words[counts[verdict] != 1]}" for verdict, words in _WORDS.items() if counts[verdict]]
    return f"{NOTES}' claims: {', '.join(parts)}" if parts else None
