"""What a person or a pipe reads: whole lines, the root and its evidence, the verdict last, the notes' claims apart."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from tests.theworld_validate.rendering.form_readers import read_markdown, read_terminal, visible_text
from tests.theworld_validate.rendering.sample_reports import (
    CAUSE,
    SUBJECTS,
    consequence,
    make_report,
    parity_report,
    sample_checks,
)
from theworld_validate.progress import _Bar
from theworld_validate.rendering.claims_rows import count_claims, describe_claims
from theworld_validate.rendering.console import new_console, print_report
from theworld_validate.rendering.github import annotations
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.results import CheckResult, Finding, Report, Row, Status

CLAIMS: list[Row] = [
    {"claim": "head", "verdict": "holds", "says": "the head is tied", "quote": 'line 163: "Tied to: embeddings"'},
    {"claim": "size", "verdict": "refuted", "says": "it is two billion", "quote": 'line 126: "Cosmos 2B"'},
    {"claim": "image", "verdict": "holds", "says": "an image is 256", "quote": 'line 148: "256 visual tokens"'},
]
CLAIMED = "the first implementation notes' claims: 2 hold, 1 is refuted"


def failing_twice() -> Report:
    """A root, what follows from it in two other checks, and a check that fails by itself."""
    follows = consequence(0)
    checks = [
        CheckResult(id="parity.buffers", status=Status.FAILED, seconds=0.0, findings=(CAUSE,)),
        CheckResult(id="parity.probe.text", status=Status.FAILED, seconds=0.0, findings=(follows, consequence(1))),
        CheckResult(id="parity.gradients", status=Status.FAILED, seconds=0.0, findings=(consequence(2),)),
        CheckResult(id="claims.speed", status=Status.SKIPPED, reason="2 claims need a GPU", seconds=0.0),
        CheckResult(
            id="files.keys",
            status=Status.FAILED,
            seconds=0.0,
            findings=(Finding(code="files.missing", location="a", message="a is missing"), follows),
        ),
    ]
    return make_report(checks, command="theworld-validate parity")


def with_claims(command: str = "theworld-validate") -> Report:
    """A report whose claims have rows, and one of them the finding of a refuted one."""
    checks = [
        replace(check, measurements={"claims": CLAIMS}) if check.id == "claims.counts" else check
        for check in sample_checks()
    ]
    return make_report(checks, command=command)


def in_a_pipe(report: Report, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `print_report` writes where stdout is no terminal, whatever COLUMNS says."""
    with io.StringIO() as stdout, monkeypatch.context() as patch:
        patch.setenv("COLUMNS", "40")
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
            patch.delenv(name, raising=False)
        patch.setattr("sys.stdout", stdout)
        print_report(new_console(), report)
        return stdout.getvalue()


def test_nothing_is_wrapped_or_padded_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    report = parity_report(8)
    text = in_a_pipe(report, monkeypatch)
    lines = text.splitlines()
    for sentence in (CAUSE.message, f"cause: {CAUSE.cause}", f"remedy: {CAUSE.remedy}", report.command_line):
        assert [line for line in lines if str(sentence) in line], sentence
    assert not [line for line in lines if line != line.rstrip()]
    assert "\x1b" not in text
    wrapped = read_terminal(report, width=60)
    assert "".join(wrapped.split()) == "".join(text.split())  # the same text at any width


@pytest.mark.parametrize(("columns", "width"), [("60", 60), (None, 1_000_000)])
def test_a_pipe_that_says_that_it_is_a_terminal_is_believed(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int
) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert (new_console().width, new_console().is_terminal) == (width, True)


def test_a_table_in_a_pipe_has_its_long_columns_at_the_end_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    report = with_claims("theworld-validate claims")
    lines = in_a_pipe(report, monkeypatch).splitlines()
    rows = [
        {"name": "first", "why": "because " * 30, "value": 1},
        {"name": "second", "why": "since " * 30, "value": 2},
    ]
    assert any(line.startswith("size ") and line.endswith('line 126: "Cosmos 2B"') for line in lines)
    long = replace(report, checks=(replace(report.checks[0], measurements={"t": rows}),))
    lines = in_a_pipe(long, monkeypatch).splitlines()
    assert f"first      1; why: {('because ' * 30).strip()}" in lines  # a search finds the whole row
    terminal = read_terminal(long, width=100).splitlines()
    assert terminal[terminal.index("first") + 1].startswith("    why: because because")
    assert "    value: 1" in terminal


def test_many_numbers_of_one_row_are_one_line_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = [
        {"configuration": name, **{f"{'long' * 4}_{i}_bytes": number * 10**9 for i in range(12)}}
        for number, name in enumerate(("projection", "full"), start=1)
    ]
    check = CheckResult(id="a.b", status=Status.PASSED, seconds=0.0, measurements={"t": rows})
    text = in_a_pipe(make_report([check], command="theworld-validate memory"), monkeypatch)
    assert len([line for line in text.splitlines() if "GB" in line]) == 2


def test_the_verdict_and_its_cause_are_last_and_say_who_failed_by_whom() -> None:
    text = read_terminal(failing_twice(), width=200)
    assert text.splitlines()[-5:] == [
        "skipped: claims.speed (2 claims need a GPU)",
        "failed: parity.buffers, files.keys; parity.probe.text, parity.gradients (from parity.buffers)",
        "FAILED: 0 of 5 checks passed, 4 failed, 1 skipped, in 30.0 s",
        f"likeliest cause: {CAUSE.cause}",
        f"where: {CAUSE.location}",
    ]


def test_what_follows_is_a_count_and_never_a_box_of_its_own() -> None:
    text = read_terminal(failing_twice(), width=200)
    assert "    and 4 that follow from it: 2 in parity.probe.text, 1 in parity.gradients, 1 in files.keys\n" in text
    assert re.search(r"(?m)^FAIL  parity.gradients +1 finding, all following from parity.buffers$", text)
    assert re.search(r"(?m)^FAIL  files.keys +2 findings$", text)  # one of its own
    assert text.count("differs in its bits") == 1  # where outputs differ first
    assert text.index(CAUSE.message) < text.index("a is missing")


def test_a_root_has_its_evidence() -> None:
    first = replace(consequence(0), section="trace")
    told = replace(CAUSE, message="a buffer is of another dtype", location="model.rotary_emb.inv_freq")
    checks = [
        CheckResult(id="parity.buffers", status=Status.FAILED, seconds=0.0, findings=(told,)),
        CheckResult(id="parity.probe.text", status=Status.FAILED, seconds=0.0, findings=(first, consequence(1))),
    ]
    text = read_terminal(make_report(checks, command="theworld-validate parity"), width=200)
    assert "    measured: expected float32, actual bfloat16\n" in text
    assert "    outputs differ first: text/model.layers.0 differs in its bits\n" in text
    assert "measured" not in read_terminal(parity_report(), width=200)  # the message says both values


def test_equal_subjects_are_named_once_with_the_libraries() -> None:
    report = replace(parity_report(), subjects=(SUBJECTS[0], SUBJECTS[0], SUBJECTS[1]))
    text = read_terminal(report, width=300)
    assert text.count(SUBJECTS[0].target) == 1
    assert "libraries  Python 3.11.7, torch 2.13.0, transformers 5.23.0, diffusers 0.42.1\n" in text


def test_documented_claims_are_one_line_and_no_warning_of_the_model() -> None:
    report = with_claims()
    assert count_claims(report) == {"holds": 2, "refuted": 1}
    assert describe_claims(report) == CLAIMED
    assert describe_claims(parity_report()) is None
    bare = read_terminal(report, width=200)
    assert f"\n{CLAIMED}; theworld-validate claims quotes each\n" in bare
    assert "line 7 says otherwise" not in bare
    own = read_terminal(replace(report, command="theworld-validate claims"), width=200)
    for row in CLAIMS:
        assert str(row["quote"]) in own
    markdown = visible_text(read_markdown(render_markdown(report)))
    assert f"T{CLAIMED[1:]}." in markdown
    assert "line 7 says otherwise" not in markdown
    assert all(str(row["quote"]) in markdown for row in CLAIMS)
    assert not [text for text in annotations(report) if "claims.counts" in text]


def test_a_claim_whose_verdict_changed_is_an_error_everywhere() -> None:
    changed = Finding(code="claims.verdict_changed", location="counts.head", message="the head is no longer tied")
    check = CheckResult(id="claims.counts", status=Status.FAILED, seconds=0.0, findings=(changed,))
    report = make_report([check])
    assert "claims.counts: the head is no longer tied" in read_terminal(report, width=200)
    assert "the head is no longer tied" in render_markdown(report)
    assert "the head is no longer tied" in annotations(report)[0]


@pytest.mark.parametrize(("no_color", "code"), [(None, "\x1b[1;31m"), ("1", "\x1b[1m")])
def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch, no_color: str | None, code: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    with io.StringIO() as printed:
        print_report(Console(file=printed, width=80, force_terminal=True, color_system="standard"), parity_report())
        text = printed.getvalue()
    assert f"{code}FAILED" in text
    assert ("\x1b[31m" in text) is (no_color is None)


def test_the_bar_is_never_full_while_there_is_work() -> None:
    bar = _Bar()
    task = bar._progress.tasks[0]
    bar._tell("of unknown length")
    assert task.total is None
    bar._expect(2)
    for step in range(4):
        bar._tell(f"step {step}")
        assert task.total is not None
        assert task.completed < task.total
        assert task.description == f"step {step}"
    assert (task.completed, task.total) == (4, 5)
