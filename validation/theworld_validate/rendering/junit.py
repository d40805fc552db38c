"""The JUnit form, for CI systems that show it: one test case a check, its findings in the failure's text.

In: a report. Out: XML 1.0. A skipped check is skipped; an inconclusive one is an error, because it is no pass.
"""

from collections.abc import Sequence
from xml.etree import ElementTree

from theworld_validate.rendering.findings import Found, Root, find_roots
from theworld_validate.rendering.plain_text import block, line, prose
from theworld_validate.rendering.summary import (
    describe_plan,
    describe_printed,
    flat_environment,
    likeliest_cause,
    subject_fields,
    verdict_line,
    why,
)
from theworld_validate.rendering.tables import evidence_of, format_value
from theworld_validate.results import CheckResult, Report, Status

_MAX_FINDINGS = 100  # of a case; the others are counted
_MAX_FOLLOWING = 10  # of a root
_TAGS = {
    Status.FAILED: "failure",
    Status.SKIPPED: "skipped",
    Status.INCONCLUSIVE: "error",
    Status.ERROR: "error",
}


def render_junit(report: Report) -> str:
    """Render a report as JUnit XML."""
    statuses = [check.status for check in report.checks]
    suite = ElementTree.Element(
        "testsuite",
        name=line(report.command),
        tests=str(len(statuses)),
        failures=str(statuses.count(Status.FAILED)),
        errors=str(statuses.count(Status.ERROR) + statuses.count(Status.INCONCLUSIVE)),
        skipped=str(statuses.count(Status.SKIPPED)),
        time=f"{report.seconds:.3f}",
        timestamp=line(report.started_at),
    )
    roots = find_roots(report)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report, roots):
        ElementTree.SubElement(properties, "property", name=name, value=value)
    own, following = _by_check(roots)
    for check in report.checks:
        _add_case(suite, check, own.get(check.id, []), following.get(check.id, []))
    printed = [
        f"what the {line(subject.role)} {describe_printed(subject)}:\n{block(subject.printed)}"
        for subject in report.subjects
        if subject.printed
    ]
    if printed:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(printed)
    root = ElementTree.Element("testsuites", name="theworld-validate")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _properties(report: Report, roots: Sequence[Root]) -> list[tuple[str, str]]:
    """What was run, of what, and where."""
    cause, plan = likeliest_cause(report, roots), describe_plan(report)
    values = [("verdict", verdict_line(report))]
    values += [("likeliest cause", cause.cause), ("where", cause.where)] if cause else []
    values += [("command line", line(report.command_line, 2000))] if report.command_line else []
    values += [("plan", plan)] if plan else []
    for subject in report.subjects:
        values += [(f"{line(subject.role)}: {name}", value) for name, value in subject_fields(subject)]
    return values + [(f"environment: {name}", value) for name, value in flat_environment(report.environment)]


def _by_check(roots: Sequence[Root]) -> tuple[dict[str, list[Root]], dict[str, list[tuple[Found, Root]]]]:
    """Each check's roots; and its findings that follow from a root, of whatever check."""
    own: dict[str, list[Root]] = {}
    following: dict[str, list[tuple[Found, Root]]] = {}
    for root in roots:
        own.setdefault(root.found.check, []).append(root)
        for found in root.follows:
            following.setdefault(found.check, []).append((found, root))
    return own, following


def _add_case(
    suite: ElementTree.Element, check: CheckResult, roots: list[Root], following: list[tuple[Found, Root]]
) -> None:
    group, _, name = check.id.rpartition(".")
    case = ElementTree.SubElement(
        suite, "testcase", name=line(name), classname=line(group or name), time=f"{check.seconds:.3f}"
    )
    lines = [text for root in roots[:_MAX_FINDINGS] for text in _describe(root)]
    lines += [_describe_following(found, root) for found, root in following[:_MAX_FINDINGS]]
    num_left_out = max(len(roots) - _MAX_FINDINGS, 0) + max(len(following) - _MAX_FINDINGS, 0)
    lines += [f"{num_left_out:,} more are in report.json"] if num_left_out else []
    text = "\n".join(lines)
    if check.status is not Status.PASSED:
        message = why(check) if check.reason or not roots else prose(roots[0].found.finding.message)
        outcome = ElementTree.SubElement(case, _TAGS[check.status], message=message, type=str(check.status))
        outcome.text = text
    elif text:
        ElementTree.SubElement(case, "system-out").text = text


def _describe(root: Root) -> list[str]:
    finding = root.found.finding
    lines = [f"{finding.severity}: {prose(finding.message)} ({line(finding.code)} at {line(finding.location)})"]
    lines += [f"  {label}: {format_value(value)}" for label, value in evidence_of(finding)]
    lines += [f"  cause: {prose(finding.cause)}"] if finding.cause else []
    lines += [f"  remedy: {prose(finding.remedy)}"] if finding.remedy else []
    if root.follows:
        named = ", ".join(line(found.finding.key, 200) for found in root.follows[:_MAX_FOLLOWING])
        more = len(root.follows) - _MAX_FOLLOWING
        lines.append(
            f"  {len(root.follows):,} that follow from it: {named}{f', and {more:,} more' if more > 0 else ''}"
        )
    return lines


def _describe_following(found: Found, root: Root) -> str:
    message, code = prose(found.finding.message), line(found.finding.code)
    return f"{message} ({code}); follows from {line(root.found.finding.key)} of {line(root.found.check)}"
