"""Findings as the forms for people show them: errors first, and what many of them share said once.

In: a report. Out: its findings, in groups that share cause and remedy.
"""

from typing import Any

_SHARED = ("check", "code", "severity", "cause", "remedy")


def group_findings(report: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """All findings, errors first, otherwise in the report's order.

    Returns:
        Each finding's fields, its "check" and that one's "check_status"; in one group where code, severity, cause
        and remedy are one finding's after another. A finding with neither cause nor remedy has a group of its own.
    """
    found = [
        {**finding, "check": check["id"], "check_status": check["status"]}
        for check in report["checks"]
        for finding in check["findings"]
    ]
    groups: list[list[dict[str, Any]]] = []
    for finding in sorted(found, key=lambda finding: finding["severity"] == "warning"):
        says_why = finding["cause"] or finding["remedy"]
        if groups and says_why and all(groups[-1][-1][field] == finding[field] for field in _SHARED):
            groups[-1].append(finding)
        else:
            groups.append([finding])
    return groups
