"""The JUnit form, for CI systems that show it: one test case a check, its findings in the failure's text.

In: a report. Out: XML. A skipped check is skipped; an inconclusive one is an error, because it is no pass.
"""

import re
from typing import Any
from xml.etree import ElementTree

_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("�", text)


def _describe(finding: dict[str, Any]) -> str:
    lines = [f"{finding['severity']}: {finding['message']} ({finding['code']})"]
    lines += [f"  {label}: {finding[label]}" for label in ("expected", "actual", "cause", "remedy") if finding[label]]
    return "\n".join(lines)


def render_junit(report: dict[str, Any]) -> str:
    """Render a report as JUnit XML."""
    checks = report["checks"]
    statuses = [check["status"] for check in checks]
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(report["command"]),
        tests=str(len(checks)),
        failures=str(statuses.count("failed")),
        errors=str(statuses.count("error") + statuses.count("inconclusive")),
        skipped=str(statuses.count("skipped")),
        time=f"{report['seconds']:.3f}",
        timestamp=report["started_at"],
    )
    for check in checks:
        group, _, name = check["id"].rpartition(".")
        case = ElementTree.SubElement(
            suite, "testcase", name=name, classname=group or name, time=f"{check['seconds']:.3f}"
        )
        text = _clean("\n".join(_describe(finding) for finding in check["findings"]))
        tag = {"failed": "failure", "skipped": "skipped", "inconclusive": "error", "error": "error"}
        if check["status"] in tag:
            first = check["reason"] or (check["findings"][0]["message"] if check["findings"] else check["status"])
            outcome = ElementTree.SubElement(case, tag[check["status"]], message=_clean(first), type=check["status"])
            outcome.text = text
        elif text:
            ElementTree.SubElement(case, "system-out").text = text
    root = ElementTree.Element("testsuites", name="theworld-validate")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
