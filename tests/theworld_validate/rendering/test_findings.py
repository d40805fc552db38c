"""Root causes first, what follows beneath; what several roots share is said once, and each of them is shown."""

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tests.theworld_validate.rendering.form_readers import read_junit, read_markdown, read_page, read_terminal
from tests.theworld_validate.rendering.sample_reports import (
    CAUSE,
    consequence,
    failing_check,
    make_report,
    parity_report,
)
from theworld_validate.rendering.findings import find_roots, group_roots
from theworld_validate.rendering.json_text import render_json
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.page import render_html
from theworld_validate.results import CheckResult, Finding, Report, Status

SHARED_CAUSE, SHARED_REMEDY = "it takes more than this GPU has", "take a larger one"


def out_of_memory(cell: int, **changes: Any) -> Finding:
    shared = {"severity": "warning", "cause": SHARED_CAUSE, "remedy": SHARED_REMEDY}
    fields = {**shared, "message": f"cell {cell} ran out", **changes}
    return Finding(code="memory.out_of_memory", location=f"cell {cell}", **fields)


def many(num_cells: int, **changes: Any) -> Report:
    findings = (*(out_of_memory(i) for i in range(num_cells)), *([out_of_memory(99, **changes)] if changes else []))
    measured = CheckResult(id="memory.measure", status=Status.PASSED, seconds=1.0, findings=findings)
    return make_report([measured, failing_check()])


def finding(code: str, explained_by: str | None = None, **changes: Any) -> Finding:
    return Finding(code=code, location="x", message=f"{code} is wrong", explained_by=explained_by, **changes)


def families(*findings: Finding) -> list[tuple[str, list[str]]]:
    """Roots by code, with the codes of what follows from each; each finding is of a check of its own."""
    checks = [
        CheckResult(id=f"a.b{index}", status=Status.FAILED, seconds=0.0, findings=(one,))
        for index, one in enumerate(findings)
    ]
    roots = find_roots(make_report(checks))
    assert sum(1 + len(root.follows) for root in roots) == len(findings)
    return [(root.found.finding.code, [found.finding.code for found in root.follows]) for root in roots]


def test_what_follows_is_under_its_root_wherever_it_was_found() -> None:
    assert families(finding("late", "root@x"), finding("root"), finding("other")) == [("root", ["late"]), ("other", [])]


def test_a_chain_ends_at_its_root() -> None:
    assert families(finding("c", "b@x"), finding("b", "a@x"), finding("a")) == [("a", ["c", "b"])]


def test_who_is_explained_by_nobody_there_is_a_root() -> None:
    assert families(finding("a", "gone@x"), finding("b", "a@x")) == [("a", ["b"])]


def test_a_circle_has_one_root() -> None:
    assert families(finding("a", "b@x"), finding("b", "a@x"), finding("c", "b@x")) == [("a", ["b", "c"])]
    assert families(finding("a", "a@x")) == [("a", [])]


def test_of_two_with_one_key_the_root_explains() -> None:
    assert families(finding("a", "b@x"), finding("a"), finding("c", "a@x"), finding("b")) == [
        ("a", ["c"]),
        ("b", ["a"]),
    ]


def test_what_explains_is_looked_for_in_the_check_itself_first() -> None:
    both = (finding("root"), finding("late", "root@x"))
    checks = [
        CheckResult(id=f"releases.{n}", status=Status.FAILED, seconds=0.0, findings=both) for n in ("5.1.0", "5.2.0")
    ]
    roots = find_roots(make_report(checks))
    assert [(root.found.check, [found.check for found in root.follows]) for root in roots] == [
        ("releases.5.1.0", ["releases.5.1.0"]),
        ("releases.5.2.0", ["releases.5.2.0"]),
    ]


def test_errors_come_before_warnings_and_otherwise_the_order_stays() -> None:
    warning = {"severity": "warning"}
    assert [code for code, _ in families(finding("w", **warning), finding("b"), finding("a"))] == ["b", "a", "w"]
    # A warning that explains an error is a cause of the failure.
    assert [code for code, _ in families(finding("w", **warning), finding("e", "w@x"), finding("a"))] == ["w", "a"]


def test_a_long_chain_takes_no_time() -> None:
    chain = [finding("f0"), *(finding(f"f{i}", f"f{i - 1}@x") for i in range(1, 20_000))]
    started = time.perf_counter()
    check = CheckResult(id="a", status=Status.FAILED, seconds=0.0, findings=tuple(reversed(chain)))
    (root,) = find_roots(make_report([check]))
    assert (root.found.finding.code, len(root.follows)) == ("f0", 19_999)
    assert time.perf_counter() - started < 5


def test_every_form_opens_with_the_root_and_counts_what_follows() -> None:
    report = parity_report(8)
    page = read_page(render_html(report))
    markdown, terminal, junit = render_markdown(report), read_terminal(report), render_junit(report)
    assert page.text.count("8 findings follow from it") == 1
    assert (
        page.text.index(CAUSE.message) < page.text.index("text/model.layers.0 differs") < page.text.index("4 threads")
    )
    assert "  - 8 that follow from it:\n    - parity.probe.text: text/model.layers.0 differs in its bits" in markdown
    assert "    - and 5 more\n" in markdown
    assert "and 8 that follow from it: 8 in parity.probe.text cause:" in " ".join(terminal.split())
    assert "8 that follow from it: trace.digest@text/model.layers.0" in junit
    for text in (page.text, markdown, terminal, junit):
        assert "never shown" not in text  # causes and remedies of what follows
    flat = " ".join(terminal.split())
    assert flat.count(CAUSE.cause or "") == 2  # its card, and the last line
    assert flat.count(CAUSE.remedy or "") == 1


def test_one_that_follows_is_singular() -> None:
    assert "and 1 that follows from it" in " ".join(read_terminal(parity_report(1)).split())
    assert "1 finding follows from it" in read_page(render_html(parity_report(1))).text


def test_errors_come_first_and_only_neighbours_share() -> None:
    groups = group_roots(find_roots(many(3, cause="another cause")))
    severities = [(group[0].found.finding.severity, len(group)) for group in groups]
    assert severities == [("error", 1), ("warning", 3), ("warning", 1)]


def test_findings_that_do_not_say_why_share_nothing() -> None:
    plain = tuple(out_of_memory(cell, cause=None, remedy=None) for cell in range(9))
    report = make_report([CheckResult(id="memory.measure", status=Status.PASSED, seconds=1.0, findings=plain)])
    assert [len(group) for group in group_roots(find_roots(report))] == [1] * 9
    assert "more of" not in render_html(report)


def test_the_page_folds_the_fourth_and_later_ones() -> None:
    page = render_html(many(16, cause="another cause"))
    before, folded = page.split("<details><summary>13 more of <code>memory.out_of_memory</code>")
    inside, after = folded.split("</details>", 1)
    assert [text.count("ran out") for text in (before, inside, after)] == [3, 13, 1]
    assert "another cause" in after
    assert page.count(SHARED_CAUSE) == page.count("another cause") == 1


def test_one_cause_in_six_checks_is_one_card() -> None:
    probes = ("text", "image", "two_images", "left_padded_batch", "beyond_window", "cached_decode")
    found = {name: replace(CAUSE, code="trace.digest", location=name, message=f"{name} differs") for name in probes}
    checks = [failing_check(id=f"parity.probe.{name}", findings=(one,)) for name, one in found.items()]
    page = read_page(render_html(make_report(checks)))
    assert page.tags.count("article") == 1
    assert "and in 5 more places, with the same cause and remedy" in page.text
    assert all(f"{name} differs" in page.text for name in probes)
    other = failing_check(findings=(replace(CAUSE, remedy="another remedy"),))
    assert read_page(render_html(make_report([*checks, other]))).tags.count("article") == 2


def test_the_page_does_not_fold_a_single_one() -> None:
    assert "more of" not in render_html(many(4))
    assert "2 more of" in render_html(many(5))


def test_markdown_and_terminal_say_a_cause_once() -> None:
    report = replace(many(16), command="theworld-validate memory measure")  # the bare command leaves out causes
    for text in (render_markdown(report), read_terminal(report)):
        assert text.count(SHARED_CAUSE) == text.count(SHARED_REMEDY) == 1
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
    lines = [line for line in render_markdown(make_report(checks)).splitlines() if "ran out" in line]
    assert any("as above" in line for line in lines)
    for before, line in pairwise(lines):
        if "as above" in line:
            assert before.split("**")[1] == line.split("**")[1]


def test_twenty_thousand_findings_take_seconds_and_give_bounded_forms() -> None:
    roots = [out_of_memory(i, severity="error", message="m" * 200 + str(i)) for i in range(10_000)]
    follow = [replace(consequence(i), explained_by=roots[i % 30].key, message="f" * 900) for i in range(10_000)]
    table = [{"name": f"row {i}", "value": i} for i in range(20_000)]
    report = make_report(
        [
            CheckResult(
                id="a.b", status=Status.FAILED, seconds=0.0, findings=(*roots, *follow), measurements={"t": table}
            )
        ]
    )
    started = time.perf_counter()
    html, markdown, junit = render_html(report), render_markdown(report), render_junit(report)
    terminal = read_terminal(replace(report, command="theworld-validate parity"))
    render_json(report)
    assert time.perf_counter() - started < 20
    assert len(html) < 4_000_000
    assert len(markdown.encode()) <= 60_000
    assert len(junit) < 500_000
    assert len(terminal) < 50_000
    text = read_page(html).text
    assert "9,700 findings more are in report.json." in text
    assert "19,000 rows more are in report.json." in text
    read_markdown(markdown)
    read_junit(junit)
    assert "root causes more, in the report" in terminal
