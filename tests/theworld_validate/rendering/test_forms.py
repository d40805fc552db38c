"""The forms of a report: HTML, Markdown, JUnit, GitHub; the folder that holds them; the schema."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from tests.conftest import SCHEMA as SCHEMA_FILE
from tests.theworld_validate.rendering.sample_reports import failing_check, make_report, sample_checks
from theworld_validate.rendering.folder import write_files, write_report_folder
from theworld_validate.rendering.github import MAX_ANNOTATIONS, annotations, tell_github
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import MAX_BYTES, render_markdown
from theworld_validate.rendering.page import anchor_of, finding_anchor, render_html
from theworld_validate.results import TENSORS_FILE, CheckResult, Finding, Status

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "src":
                self.loads.append(value or "")


def test_the_page_is_whole_in_itself() -> None:
    html = render_html(make_report(sample_checks()))
    page = Page(html)
    assert page.loads == []
    assert "link" not in page.tags
    assert "@import" not in html
    assert "url(" not in html
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert(1)" not in html


def test_the_page_shows_everything() -> None:
    report = make_report(sample_checks())
    html = render_html(report)
    ids = Page(html).ids
    for check in report["checks"]:
        assert anchor_of(check["id"]) in ids
        assert all(finding_anchor(check["id"], finding) in ids for finding in check["findings"])
    assert set(ids) >= {"findings", "divergence", "checks", "memory", "params", "claims", "environment"} - {"claims"}
    assert "7 of 10" in html  # how far the difference spreads
    assert html.index("buffers.dtype") < html.index("claims.refuted")  # errors first
    assert "load with from_pretrained" in html
    assert "peaks: forward" in html


def test_the_same_report_gives_the_same_forms() -> None:
    report = make_report(sample_checks())
    for render in (render_html, render_markdown, render_junit):
        assert render(report) == render(json.loads(json.dumps(report)))


def test_markdown_has_failures_first_and_a_limit() -> None:
    report = make_report(sample_checks())
    text = render_markdown(report)
    assert text.index("## Findings") < text.index("## Checks")
    assert text.index("parity.buffers |") < text.index("params.components |")
    rows = [{"name": f"row {i}", "value": i} for i in range(9000)]
    many = [
        failing_check(id=f"parity.layer{i}", measurements={"table": rows}, findings=failing_check().findings * 20)
        for i in range(50)
    ]
    long = render_markdown(make_report(many))
    assert len(long.encode()) <= MAX_BYTES
    assert re.search(r"\d+ findings more are in report.html", long)
    assert "50 tables more are in" in long


def test_junit_has_a_case_a_check_and_no_pass_for_what_did_not() -> None:
    report = make_report(sample_checks())
    suite = ElementTree.fromstring(render_junit(report))[0]
    assert suite.attrib["tests"] == str(len(report["checks"]))
    outcome = {f"{case.get('classname')}.{case.get('name')}": [child.tag for child in case] for case in suite}
    assert outcome["parity.buffers"] == ["failure"]
    assert outcome["parity.control"] == ["error"]
    assert outcome["claims.memory"] == ["skipped"]
    assert outcome["params.components"] == []
    assert outcome["claims.counts"] == ["system-out"]
    assert "remedy: load with from_pretrained" in (suite[0][0].text or "")
    odd = failing_check(reason="a \x1b[31mred\x00 word")
    assert ElementTree.fromstring(render_junit(make_report([odd]))) is not None


def test_github_gets_a_summary_and_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = make_report(sample_checks())
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    tell_github(report)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    tell_github(report)
    assert (tmp_path / "summary.md").read_text().startswith("# theworld-validate: failed")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("::error title=parity.buffers::dtype is bfloat16")
    assert "::error title=parity.control::inconclusive: two runs differ" in err
    assert "::warning title=claims.counts::" in err
    finding = Finding(code="a.b", location="c", message="100 %\nof it")
    many = make_report([failing_check(findings=(finding,) * 40)])
    many["checks"][0]["id"] = "a:b,c"
    lines = annotations(many)
    assert lines[0] == "::error title=a%3Ab%2Cc::100 %25%0Aof it"
    assert len(lines) == MAX_ANNOTATIONS


def test_a_folder_has_every_form_and_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    write_report_folder(make_report(sample_checks()), tmp_path)
    first = {path.name for path in tmp_path.iterdir()}
    assert first >= {"report.json", "report.md", "report.html", "junit.xml", "memory.predict.split.svg"}
    (tmp_path / TENSORS_FILE).touch()
    write_report_folder(make_report([failing_check(measurements={"divergence_tensors_file": TENSORS_FILE})]), tmp_path)
    assert (tmp_path / TENSORS_FILE).exists()
    write_report_folder(make_report([failing_check()]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "report.html", "junit.xml"}


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": "old", "b": "old"})
    with pytest.raises(UnicodeEncodeError):
        write_files(tmp_path, {"a": "new", "b": "\ud800"})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
    assert (tmp_path / "a").read_text() == "old"


def test_the_schema_takes_reports_and_refuses_others() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    report = make_report(sample_checks())
    jsonschema.validate(report, SCHEMA)
    for broken in ({**report, "verdict": "fine"}, {**report, "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):  # every report that a test makes is held against it
        make_report([CheckResult(id="a", status=Status.PASSED, seconds=0.0, measurements={"peak_bytes": 1.5})])
