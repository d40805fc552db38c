"""Findings as the forms for people show them: errors first, and what many of them share said once.

In: a report. Out: its findings, each with its check and whether it only repeats the one before it elsewhere.
"""

from itertools import pairwise
from typing import Any

_SHARED = ("check", "code", "severity", "cause", "remedy")


def order_findings(report: dict[str, Any]) -> list[dict[str, Any]]:
    """All findings, errors first, otherwise in the report's order.

    Returns:
        Each finding's fields, and "check", "check_status" and "repeats": whether it has a cause or a remedy, and
        they, its code and its severity are those of the finding before it.
    """
    found = [
        {**finding, "check": check["id"], "check_status": check["status"], "repeats": False}
        for check in report["checks"]
        for finding in check["findings"]
    ]
    found.sort(key=lambda finding: finding["severity"] == "warning")
    for before, finding in pairwise(found):
        says_why = finding["cause"] is not None or finding["remedy"] is not None
        finding["repeats"] = says_why and all(before[field] == finding[field] for field in _SHARED)
    return found
