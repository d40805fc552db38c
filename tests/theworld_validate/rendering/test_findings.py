"""Findings that differ in their messages alone: each is shown, what they share is said once."""

import io
from itertools import pairwise
from typing import Any

from rich.console import Console

from tests.theworld_validate.rendering.sample_reports import failing_check, make_report
from theworld_validate.rendering.console import print_report
from theworld_validate.rendering.findings import group_findings
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.page import render_html
from theworld_validate.results import CheckResult, Finding, Status

CAUSE, REMEDY = "it takes more than this GPU has", "take a larger one"


def out_of_memory(cell: int, **changes: Any) -> Finding:
    fields = {"severity": "warning", "cause": CAUSE, "remedy": REMEDY, **changes}
    return Finding(code="memory.out_of_memory", location=f"cell {cell}", message=f"cell {cell} ran out", **fields)


def many(num_cells: int, **changes: Any) -> dict[str, Any]:
    findings = (*(out_of_memory(i) for i in range(num_cells)), *([out_of_memory(99, **changes)] if changes else []))
    measured = CheckResult(id="memory.measure", status=Status.PASSED, seconds=1.0, findings=findings)
    return make_report([measured, failing_check()])


def test_errors_come_first_and_only_neighbours_share() -> None:
    groups = group_findings(many(3, cause="another cause"))
    assert [(group[0]["severity"], len(group)) for group in groups] == [("error", 1), ("warning", 3), ("warning", 1)]


def test_findings_that_do_not_say_why_share_nothing() -> None:
    plain = tuple(out_of_memory(cell, cause=None, remedy=None) for cell in range(9))
    report = make_report([CheckResult(id="memory.measure", status=Status.PASSED, seconds=1.0, findings=plain)])
    assert [len(group) for group in group_findings(report)] == [1] * 9
    assert "more of" not in render_html(report)


def test_the_page_folds_the_fourth_and_later_ones() -> None:
    page = render_html(many(16, cause="another cause"))
    before, folded = page.split("<details><summary>13 more of <code>memory.out_of_memory</code>")
    inside, after = folded.split("</details>", 1)
    assert [before.count(">: cell"), inside.count(">: cell"), after.count(">: cell")] == [3, 13, 1]
    assert "another cause" in after
    assert "Findings (18)" in page


def test_the_page_does_not_fold_a_single_one() -> None:
    assert "more of" not in render_html(many(4))
    assert "2 more of" in render_html(many(5))


def test_markdown_and_terminal_say_a_cause_once() -> None:
    report = many(16) | {"command": "theworld-validate memory measure"}  # the bare command leaves out causes
    with io.StringIO() as printed:
        print_report(Console(file=printed, width=80), report)
        for text in (render_markdown(report), printed.getvalue()):
            assert text.count(CAUSE) == text.count(REMEDY) == 1
            assert all(f"cell {i} ran out" in text for i in range(16))


def test_markdown_never_points_above_to_what_it_left_out() -> None:
    checks = [
        CheckResult(
            id=f"memory.measure{i}",
            status=Status.PASSED,
            seconds=1.0,
            findings=tuple(out_of_memory(cell, cause="c" * 600) for cell in range(2)),
        )
        for i in range(60)
    ]
    lines = [line for line in render_markdown(make_report(checks)).splitlines() if "cell" in line]
    assert any("as above" in line for line in lines)
    for before, line in pairwise(lines):
        if "as above" in line:
            assert before.split("**")[1] == line.split("**")[1]
