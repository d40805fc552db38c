"""The forms of a report: HTML, Markdown, JUnit, terminal, JSON; what each of them must name."""

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.theworld_validate.rendering.form_readers import (
    read_junit,
    read_markdown,
    read_page,
    read_terminal,
    visible_text,
)
from tests.theworld_validate.rendering.sample_reports import (
    CAUSE,
    COMMAND_LINE,
    SUBJECTS,
    failing_check,
    make_report,
    parity_report,
    sample_checks,
)
from theworld_validate.documents.report import parse_report
from theworld_validate.rendering.console import print_report
from theworld_validate.rendering.figures import draw_figures
from theworld_validate.rendering.json_text import render_json
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import MAX_BYTES, render_markdown
from theworld_validate.rendering.names import anchor_of, finding_anchor
from theworld_validate.rendering.page import render_html
from theworld_validate.results import CheckResult, Status


def test_the_page_is_whole_in_itself() -> None:
    html = render_html(make_report(sample_checks()))
    page = read_page(html)
    assert "src" not in page.attributes
    assert "link" not in page.tags
    assert "@import" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert(1)" not in html


def test_the_page_shows_everything() -> None:
    report = make_report(sample_checks())
    page = read_page(render_html(report))
    for check in report.checks:
        assert anchor_of(check.id) in page.ids
        assert all(finding_anchor(check.id, finding) in page.ids for finding in check.findings)
    assert set(page.ids) >= {"findings", "divergence", "checks", "memory", "params", "claims", "environment"}
    assert "warnings" not in page.ids  # a mistake of the notes is none of the model
    assert "compared" not in page.ids  # no subjects
    assert "7 of 10" in page.text  # how far the difference spreads
    assert page.text.index("buffers.dtype") < page.text.index("claims.refuted")  # errors first
    assert "load with from_pretrained" in page.text
    assert "peaks: forward" in page.text


def test_what_follows_has_an_anchor_too() -> None:
    report = parity_report(3)
    ids = read_page(render_html(report)).ids
    assert all(finding_anchor(check.id, finding) in ids for check in report.checks for finding in check.findings)


def test_a_finding_that_is_there_twice_has_two_anchors() -> None:
    (finding,) = failing_check().findings
    read_page(render_html(make_report([failing_check(findings=(finding,) * 3)])))


@pytest.mark.parametrize("form", ["page", "markdown", "junit", "terminal"])
def test_every_form_names_the_subjects_the_command_and_the_plan(form: str) -> None:
    report = parity_report()
    junit = read_junit(render_junit(report))
    text = {
        "page": lambda: read_page(render_html(report)).text,
        "markdown": lambda: visible_text(read_markdown(render_markdown(report))),
        "junit": lambda: " ".join(" ".join((*e.attrib.values(), e.text or "")) for e in junit.iter()),
        "terminal": lambda: " ".join(read_terminal(report).split()),
    }[form]()
    for subject in SUBJECTS:
        assert subject.role in text
        assert subject.target in text
        assert subject.checkpoint in text
        digest = str(subject.checkpoint_digest)
        assert (digest[:16] if form == "terminal" else digest) in text
        assert subject.dtype in text
        assert subject.device in text
        assert "sdpa" in text
    assert "checkpoints/cosmos" in text
    assert COMMAND_LINE in text
    assert "2 probes (text, image)" in text
    assert "3 sections (config, buffers, trace)" in text
    assert "the rotary embedding was cast" in text
    assert "printed 5,002,713 bytes" in text
    assert "of which the report keeps 47" in text


def test_the_same_report_gives_the_same_forms() -> None:
    report = parity_report()
    read_back = parse_report(json.loads(render_json(report)), source="report.json")
    assert read_back == report
    for render in (render_html, render_markdown, render_junit, render_json, draw_figures):
        assert render(report) == render(read_back)


def test_markdown_has_failures_first_and_a_limit() -> None:
    text = render_markdown(make_report(sample_checks()))
    read_markdown(text)
    assert text.index("## Findings") < text.index("## Checks")
    assert text.index("parity.buffers |") < text.index("params.components |")
    rows = [{"name": f"row {i}", "value": i} for i in range(9000)]
    many = [
        failing_check(id=f"parity.layer{i}", measurements={"table": rows}, findings=failing_check().findings * 20)
        for i in range(50)
    ]
    long = render_markdown(make_report(many, command_line="x" * 9000))
    read_markdown(long)
    assert len(long.encode()) <= MAX_BYTES
    assert re.search(r"\d+ root causes more are in report.html", long)
    assert "50 tables more are in" in long


def test_junit_has_a_case_a_check_and_no_pass_for_what_did_not() -> None:
    report = make_report(sample_checks())
    suite = read_junit(render_junit(report))[0]
    assert suite.attrib["tests"] == str(len(report.checks))
    cases = suite.findall("testcase")
    outcome = {f"{case.get('classname')}.{case.get('name')}": [child.tag for child in case] for case in cases}
    assert outcome["parity.buffers"] == ["failure"]
    assert outcome["parity.control"] == ["error"]
    assert outcome["claims.memory"] == ["skipped"]
    assert outcome["params.components"] == []
    assert outcome["claims.counts"] == ["system-out"]
    assert "remedy: load with from_pretrained" in (cases[0][0].text or "")
    assert suite.find("testcase/error[@message='two runs differ']") is not None
    odd = failing_check(reason="a \x1b[31mred\x00 word")
    assert r"a \x1b[31mred\x00 word" in render_junit(make_report([odd]))


def test_junit_says_whence_a_failure_follows() -> None:
    suite = read_junit(render_junit(parity_report()))[0]
    (case,) = [case for case in suite.findall("testcase") if case.get("name") == "text"]
    assert "follows from buffers.dtype@model.rotary_emb.inv_freq of parity.buffers" in (case[0].text or "")


def test_the_terminal_ends_with_the_verdict_and_the_likeliest_cause() -> None:
    lines = " ".join(read_terminal(parity_report()).split())
    verdict, rest = lines.split("FAILED: ")[1].split(" likeliest cause: ")
    assert verdict == (
        "2 of 6 checks passed, 2 failed, 1 inconclusive, 1 skipped; "
        "20 tensors compared bit for bit, 4.0 kB of state, in 30.0 s"
    )
    assert rest.split(" where: ") == [CAUSE.cause, CAUSE.location]


def test_the_terminal_says_why_a_check_is_no_pass() -> None:
    text = read_terminal(parity_report())
    assert re.search(r"(?m)^open  parity.control +two runs differ$", text)
    assert re.search(r"(?m)^skip  parity.gradients +the reference has none$", text)
    flat = " ".join(text.split())
    assert (
        "FAIL parity.probe.text 20 tensors compared, 4.0 kB compared; 8 findings, all following from parity.buffers"
        in flat
    )
    without = CheckResult(id="parity.control", status=Status.INCONCLUSIVE, seconds=0.0)
    assert "no reason was recorded" in read_terminal(make_report([without]))


def test_without_a_finding_the_cause_is_the_worst_checks_reason() -> None:
    checks = [
        CheckResult(id="a.b", status=Status.INCONCLUSIVE, reason="two runs differ", seconds=0.0),
        CheckResult(id="a.c", status=Status.ERROR, reason="it raised KeyError", seconds=0.0),
    ]
    assert read_terminal(make_report(checks)).endswith("likeliest cause: it raised KeyError\nwhere: a.c\n")
    assert "likeliest cause" not in read_terminal(
        make_report([CheckResult(id="a.d", status=Status.PASSED, seconds=0.0)])
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_terminal_keeps_to_its_width(width: int) -> None:
    assert "likeliest cause" in " ".join(read_terminal(parity_report(), width=width).split())


def test_colours_are_the_consoles_own() -> None:
    with io.StringIO() as printed:
        print_report(Console(file=printed, width=80, force_terminal=True, color_system="standard"), parity_report())
        text = printed.getvalue()
    assert "\x1b[1;31mFAILED" in text
    assert "\x1b" not in read_terminal(parity_report())


def test_a_stream_that_has_no_unicode_gets_escapes(tmp_path: Path) -> None:
    check = failing_check(reason="größer als ∞")
    path = tmp_path / "printed"
    with path.open("w", encoding="ascii") as file:
        print_report(Console(file=file, width=80), make_report([check]))
    assert r"gr\xf6\xdfer als \u221e" in path.read_text(encoding="ascii")


def test_a_full_disk_is_an_error_here() -> None:
    file = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails
    with pytest.raises(OSError, match="No space left"):
        print_report(Console(file=file, width=80), parity_report())
    with contextlib.suppress(OSError):
        file.close()


def test_json_is_read_back_whatever_it_holds() -> None:
    report = make_report([failing_check(reason="half \ud800 a pair, ##[error]", measurements={"n": 10**5000})])
    text = render_json(report)
    text.encode("ascii")
    assert "##[" not in text
    assert json.loads(text)["checks"][0]["reason"] == "half \\ud800 a pair, ##[error]"
    (check,) = parse_report(json.loads(text), source="report.json").checks
    assert check.measurements["n"] == "an integer of 16,610 bits"


def test_the_environment_is_in_words_and_units() -> None:
    report = make_report(sample_checks())
    for text in (render_markdown(report), read_page(render_html(report)).text):
        for raw in ("cpu_count", "torch_threads", "calibration_seconds", "gpu_count"):
            assert raw not in text
        assert "processor cores" in text
        assert "0.02 s" in text


def test_an_inconclusive_check_is_open() -> None:
    check = CheckResult(id="parity.control", status=Status.INCONCLUSIVE, reason="two runs differ", seconds=0.0)
    assert re.search(r"^open +parity\.control +two runs differ", read_terminal(make_report([check])), re.MULTILINE)


def test_a_report_of_nothing_has_every_form() -> None:
    report = replace(make_report([]), environment=None)
    assert "0 of 0 checks passed" in read_page(render_html(report)).text
    read_markdown(render_markdown(report))
    read_junit(render_junit(report))
    assert "INCONCLUSIVE: 0 of 0 checks passed" in read_terminal(report)
