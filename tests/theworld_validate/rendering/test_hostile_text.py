"""Text of any origin, in every place of a report that takes text: each form is whole, and nothing is injected."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.theworld_validate.rendering.form_readers import (
    read_annotations,
    read_junit,
    read_markdown,
    read_page,
    read_terminal,
    visible_text,
)
from theworld_validate.documents.report import parse_report
from theworld_validate.rendering.figures import draw_figures
from theworld_validate.rendering.folder import write_report_folder
from theworld_validate.rendering.github import annotations
from theworld_validate.rendering.json_text import render_json
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.markdown_text import cell, code, escape, fenced
from theworld_validate.rendering.names import anchor_of, stem_of
from theworld_validate.rendering.page import render_html
from theworld_validate.rendering.plain_text import line, prose
from theworld_validate.results import CheckResult, Environment, Finding, Plan, Report, Status, SubjectRecord

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "end of script": "</script></style></title></pre></code><script>alert(1)</script>",
    "img": '"><img src=x onerror=alert(1)>',
    "attribute": "' onmouseover='alert(1)' \" autofocus onfocus=\"alert(1)",
    "comment": "<!-- hides the rest",
    "cdata": "]]> <![CDATA[ &amp; &lt;script&gt; &#60;",
    "crlf": "a\r\n# PWNED\r\n\r\n- [x] item\r## again",
    "ansi": "\x1b[31mred\x1b]0;title\x07\x9b31m",
    "annotation": "x\n::error::PWN\r\n  ::set-output name=a::b",
    "annotation after a fold": "a" * 79 + "::error::PWN " + "b " * 38 + "::error file=x::PWN",
    "old annotation": "##[error]PWN ##[add-mask]x",
    "property": "a,file=/etc/passwd,line=1::title=x%0A::error::%0D%25",
    "controls": "a\x00b\x01c\x08\x0b\x0c\x7f\x85\x1f",
    "surrogate": "\ud800 \udfff\ud83d \ude00",
    "bidi": "a\u202eb\u2066c\u2069\u200f\u061c",
    "noncharacter": "\uffff\ufffe\U0010ffff\ufdd0\ue000\u0378",
    "separators": "a\u2028b\u2029c\u00a0d\u3000e\ufefff\u200b",
    "long": "L" * 10_000,
    "long words": "words " * 2_000,
    "template": "{{ 7 * 7 }} {% raw %} {# x #} ${x} %(x)s {0}",
    "markup": "[bold red]x[/] [link=http://evil]y[/link] :smile: [/nothing]",
    "markdown": "**b** __i__ _x_ ~~s~~ [a](http://e) ![i](x) `c` ```\n# h\n> q\n1. x\n---\n***\n| a | b |\n|---|---|",
    "links": "https://evil.example www.evil.example a@evil.example @someone #1 owner/name#2",
    "backticks": "` `` ``` ```` \\` \\| | \\",
    "table": "a | b || c \\| d &#124;\n|---|---|",
    "math": "$\\frac{1}{$ $x$ \\(y\\)",
    "path": "../../etc/passwd /abs C:\\x .. .",
    "empty": "",
    "blank": "   ",
    "wide": "漢字" * 60 + "🤖🏳️‍🌈 e\u0301" + "\u0301" * 40,
}


def hostile_report(*texts: str) -> Report:
    """A report that has the texts in turn wherever it takes text."""
    counter = 0

    def text() -> str:
        nonlocal counter
        counter += 1
        return texts[counter % len(texts)]

    def finding(**changes: Any) -> Finding:
        fields = {"code": text(), "location": text(), "message": text(), "expected": text(), "actual": text()}
        fields |= {"cause": text(), "remedy": text(), "section": text(), "field": text()}
        return Finding(**(fields | changes))

    root = finding()
    rows: list[dict[str, Any]] = [{text(): text(), "size_bytes": 4}, {text(): text(), f"{text()}_bytes": text()}]
    workload = {"configuration": text(), "batch": text()}
    measurements: dict[str, Any] = {
        text(): text(),
        f"{text()}_bytes": 3,
        f"{text()} ": 1.5,
        f"{text()}table": rows,
        "columns": {text(): [text(), 1], "other": [text()]},
        "divergence": {"modules": [text(), text()], "outputs": [2, 3], "differing": [0, 1]},
        "divergence_spread": text(),
        "splits": [{**workload, "a_bytes": 5, f"{text()}_bytes": 7}],
        "phase_peaks": [{**workload, "forward_bytes": 5}],
        "timelines": [{**workload, "bytes": [1, 2, 3]}],
        "curves": [{**workload, "over": text(), "sizes": [1, 2], "peak_reserved_bytes": [1, 2]}],
        "capacity_bytes": 9,
    }
    checks = [
        CheckResult(id=f"parity.{text()}", status=Status.FAILED, seconds=1.0, findings=(root, finding(), finding())),
        CheckResult(id=f"memory.{text()}", status=Status.PASSED, seconds=1.0, measurements=measurements),
        CheckResult(id=f"{text()}.a", status=Status.INCONCLUSIVE, seconds=1.0, reason=text()),
        CheckResult(id=f"b.{text()}.c", status=Status.ERROR, seconds=1.0, reason=text()),
        CheckResult(id="params.x", status=Status.SKIPPED, seconds=1.0, reason=text(), measurements={"t": rows}),
        CheckResult(
            id="parity.follows",
            status=Status.FAILED,
            seconds=1.0,
            findings=tuple(finding(explained_by=root.key) for _ in range(5)),
        ),
        CheckResult(
            id="parity.warnings", status=Status.PASSED, seconds=1.0, findings=(finding(severity="warning"),) * 6
        ),
    ]
    subject = SubjectRecord(
        role=text(),
        target=text(),
        checkpoint=text(),
        checkpoint_digest=text(),
        cosmos=text(),
        dtype=text(),
        device=text(),
        attn=text(),
        printed=text() + "\n" + text(),
        printed_bytes=99_999,
    )
    return Report(
        command=text(),
        command_line=text(),
        started_at=text(),
        seconds=1.0,
        environment=Environment(python=text(), platform=text(), packages={text(): text(), "torch": text()}),
        subjects=(subject, subject),
        plan=Plan(sections=(text(), "config"), probes=(text(),)),
        checks=tuple(checks),
    )


def read_every_form(report: Report) -> None:
    """Render each form, and read it as strictly as it can be read."""
    page = read_page(render_html(report))
    tokens = read_markdown(render_markdown(report))
    read_junit(render_junit(report))
    read_terminal(report)
    kinds = [kind for kind, _, _ in read_annotations(annotations(report))]
    assert set(kinds) == {"error", "warning", "notice"}
    assert kinds.count("notice") == 1
    values = json.loads(render_json(report))
    render_json(report).encode("ascii")
    assert len(values["checks"]) == len(report.checks)
    assert page.tags.count("article") >= 2
    num_findings = sum(len(check.findings) for check in report.checks)
    assert sum(name.startswith("finding-") for name in page.ids) == num_findings
    assert visible_text(tokens)


@pytest.mark.parametrize("name", HOSTILE)
def test_each_in_every_place(name: str) -> None:
    read_every_form(hostile_report(HOSTILE[name]))


def test_all_of_them_mixed() -> None:
    texts = list(HOSTILE.values())
    for turn in range(0, len(texts), 3):
        read_every_form(hostile_report(*texts[turn:], *texts[:turn]))


ODD = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc", "Cf", "Co", "Cn"]),
        st.sampled_from(list("<>&\"'`|*_[]()#!\\~$@:/%\r\n\t -=+.{}")),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ODD, min_size=1, max_size=12))
def test_whatever_hypothesis_thinks_of(texts: list[str]) -> None:
    read_every_form(hostile_report(*texts))


@settings(max_examples=500, deadline=None)
@given(ODD)
def test_inline_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    text = f"x{text}x"
    for source, wanted in ((code(text), line(text)), (cell(text), prose(text)), (escape(line(text)), line(text))):
        tokens = read_markdown(f"| a |\n|---|\n| {source} |\n")
        assert visible_text(tokens).removeprefix("a") == wanted


def test_nothing_that_github_links_or_notifies_is_outside_code() -> None:
    tokens = read_markdown(escape(HOSTILE["links"]))
    outside = "".join(child.content for token in tokens for child in token.children or () if child.type == "text")
    assert not re.search(r"@|#|://|www", outside)


@given(st.text(st.sampled_from("`~\n a#<"), max_size=40))
@settings(deadline=None)
def test_a_fence_holds_whatever_is_in_it(text: str) -> None:
    (token,) = read_markdown("\n".join(fenced(text)))
    assert token.content == f"{text}\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_names_made_of_ids_are_plain_and_differ(name: str) -> None:
    ids = [f"parity.{text}" for text in HOSTILE.values()]
    for make in (stem_of, anchor_of):
        assert len({make(check_id) for check_id in ids}) == len(ids)
        assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", make(f"parity.{HOSTILE[name]}"))
        assert len(make(HOSTILE[name])) < 150
    assert stem_of("parity.probe.left_padded-batch") == "parity.probe.left_padded-batch"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_of_each(name: str, tmp_path: Path) -> None:
    report, errors = write_report_folder(hostile_report(HOSTILE[name]), tmp_path)
    assert errors == []
    assert {path.name for path in tmp_path.iterdir()} == set(report.files)
    assert sum(file.endswith(".svg") for file in report.files) == 3
    for path in tmp_path.glob("*.svg"):
        read_svg(path.read_text(encoding="utf-8"))


def read_svg(text: str) -> None:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(text.encode())
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "a", "image", "foreignObject", "animate"}


def test_figures_of_hostile_labels_are_the_same_again() -> None:
    report = hostile_report(HOSTILE["math"], HOSTILE["wide"], "_hidden")
    assert draw_figures(report) == draw_figures(report)


MALFORMED: dict[str, Callable[[], Any]] = {
    "rows without columns": lambda: [{}],
    "names": lambda: ["a", None],
    "text": lambda: "text",
    "strings for bytes": lambda: [{"configuration": "a", "x_bytes": "many", "bytes": ["x"], "sizes": ["a"]}],
    "nothing": lambda: [{"configuration": None, "x_bytes": None, "bytes": [], "sizes": []}],
    "uneven": lambda: [{"configuration": "a", "sizes": [1, 2, 3], "peak_reserved_bytes": [1], "over": None}],
    "negative and huge": lambda: [{"configuration": "a", "x_bytes": -5, "y_bytes": 10**400, "bytes": [10**400, -1]}],
    "columns": lambda: {"modules": ["a"], "outputs": ["x"], "differing": [None]},
    "more than there are": lambda: {"modules": ["a", "b"], "outputs": [1], "differing": [5, 6]},
}


@pytest.mark.parametrize("shape", MALFORMED)
def test_measurements_of_another_shape_cost_no_form(shape: str, tmp_path: Path) -> None:
    names = ("splits", "phase_peaks", "timelines", "curves", "divergence", "capacity_bytes", "tensors_compared")
    measurements = {name: MALFORMED[shape]() for name in names}
    check = CheckResult(id="memory.x", status=Status.PASSED, seconds=0.0, measurements=measurements)
    report = Report(command="x", started_at="now", seconds=0.0, checks=(check,))
    read_page(render_html(report))
    read_markdown(render_markdown(report))
    read_junit(render_junit(report))
    read_terminal(report)
    _, errors = write_report_folder(report, tmp_path)
    assert errors == []


def test_an_escaped_report_is_read_back() -> None:
    check = CheckResult(id="a.b", status=Status.PASSED, seconds=0.0, reason=HOSTILE["surrogate"])
    report = Report(command="x", started_at="now", seconds=0.0, checks=(check,))
    (read,) = parse_report(json.loads(render_json(report)), source="x").checks
    assert read.reason == "\\ud800 \\udfff\\ud83d \\ude00"
