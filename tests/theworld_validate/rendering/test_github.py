"""What GitHub Actions is told: a summary, an annotation for each root cause; and no failure of it costs the verdict."""

import os
from pathlib import Path

import pytest

from tests.theworld_validate.rendering.form_readers import read_annotations
from tests.theworld_validate.rendering.sample_reports import (
    CAUSE,
    failing_check,
    make_report,
    parity_report,
    sample_checks,
)
from theworld_validate.rendering.github import MAX_ANNOTATIONS, annotations, tell_github
from theworld_validate.results import CheckResult, Finding, Status


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_elsewhere_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    tell_github(make_report(sample_checks()))
    assert capsys.readouterr() == ("", "")


def test_a_job_gets_a_summary_and_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    tell_github(make_report(sample_checks()))
    assert (tmp_path / "summary.md").read_text().startswith("before\n# theworld-validate: failed")
    out, err = capsys.readouterr()
    assert out == ""
    told = read_annotations(err.splitlines())
    assert told[0] == (
        "error",
        "parity.buffers",
        "dtype is bfloat16 | expected float32 <script>alert(1)</script>",
    )
    assert ("error", "parity.control", "inconclusive: two runs differ") in told
    assert not [title for _, title, _ in told if title.startswith("claims.")]  # what notes say is no fault of the model
    assert told[-1][0] == "notice"
    assert told[-1][2].startswith("FAILED: 3 of 7 checks passed")


def test_one_annotation_a_root_with_the_subjects_named() -> None:
    told = read_annotations(annotations(parity_report(8)))
    assert [kind for kind, _, _ in told] == ["error", "error", "warning", "notice"]
    assert told[0] == ("error", "parity.buffers", f"{CAUSE.message} (and 8 that follow from it)")
    assert "candidate: theworld:TheWorld, checkpoint checkpoints/gemma" in told[-1][2]


def test_a_passing_report_has_none() -> None:
    assert annotations(make_report([CheckResult(id="a", status=Status.PASSED, seconds=0.0)])) == []


def test_text_is_escaped_and_their_number_bounded() -> None:
    finding = Finding(code="a.b", location="c", message="100 %\nof it,: too")
    lines = annotations(make_report([failing_check(id="a:b,c", findings=(finding,) * 40)]))
    assert lines[0] == "::error title=a%3Ab%2Cc::100 %25 of it,: too"
    assert len(lines) == MAX_ANNOTATIONS + 1


@pytest.mark.parametrize("place", ["/nowhere/x", "/dev/full", "folder", "fifo"])
def test_a_summary_that_cannot_be_written_costs_a_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / place))
    tell_github(make_report(sample_checks()))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "GITHUB_STEP_SUMMARY" in err
    assert "not written" in err
