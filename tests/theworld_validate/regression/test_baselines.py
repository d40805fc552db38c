"""Baselines on disk, and the command: what is taken, what is refused, and where it is written."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.regression.reports import (
    ENVIRONMENT,
    PEAK,
    good_report,
    with_cell,
    with_check,
    write,
)
from theworld_validate.documents.report import read_report
from theworld_validate.regression.baselines import find_baseline, write_baseline
from theworld_validate.regression.keys import key_name
from theworld_validate.results import Environment, InputError, Report, Status


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def failed_report() -> Report:
    return with_check(good_report(), "parity.parameters", lambda check: replace(check, status=Status.FAILED))


@pytest.mark.parametrize(
    ("gpu", "torch"),
    [
        (None, "../../../.."),
        ("../../etc", "2.13"),
        ("x" * 300, "y" * 300),
        ("a/b\\c\0d\ne", "::"),
        ("..", ".."),
        ("\u202eBOSS", "2"),
        ("", ""),
    ],
)
def test_the_name_of_a_baseline_is_one_plain_part_of_a_path(tmp_path: Path, gpu: str | None, torch: str) -> None:
    environment = replace(ENVIRONMENT, gpu=gpu, packages={**ENVIRONMENT.packages, "torch": torch})
    name = key_name(environment)
    assert len(name) <= 150
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.+-")
    assert ".." not in name
    baselines = tmp_path / "deep" / "baselines"
    write_baseline(baselines, replace(good_report(), environment=environment))
    assert files_in(tmp_path) == {f"deep/baselines/{name}/report.json"}


def test_a_key_says_what_a_person_looks_for_and_the_digest_the_rest() -> None:
    names = {
        key_name(environment)
        for environment in (
            ENVIRONMENT,
            replace(ENVIRONMENT, processor="another"),
            replace(ENVIRONMENT, machine="arm64"),
            replace(ENVIRONMENT, gpu="NVIDIA H200"),
        )
    }
    assert len(names) == 4
    assert {name.split("-torch2.13.0-transformers5.23.0-")[0] for name in names} == {"cpu", "nvidia-h200"}
    assert key_name(replace(ENVIRONMENT, python="3.11.9")) == key_name(ENVIRONMENT)


def test_a_folder_that_links_elsewhere_is_not_written_to(tmp_path: Path) -> None:
    outside, baselines = tmp_path / "outside", tmp_path / "baselines"
    outside.mkdir()
    baselines.mkdir()
    (baselines / key_name(ENVIRONMENT)).symlink_to(outside)
    with pytest.raises(InputError, match="is a link to another place"):
        write_baseline(baselines, good_report())
    assert not files_in(outside)


def test_what_cannot_hold_a_baseline_is_one_line(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="neither a report nor a folder"):
        find_baseline(fifo, good_report())
    with pytest.raises(InputError, match="not readable"):
        find_baseline(Path("x" * 5000), good_report())


def test_a_current_report_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", good_report())
    assert_input_error(invoke("regress", good, tmp_path / "none.json"), "none.json: no such report")
    assert_input_error(invoke("regress", good, "x" * 5000), "not readable")


def test_the_command_gates_and_updates(tmp_path: Path) -> None:
    current = write(tmp_path / "current" / "report.json", good_report()).parent
    baselines = tmp_path / "baselines"
    assert_input_error(invoke("regress", baselines, current), "no such baseline", "--update")
    result = invoke("regress", baselines, current, "--update")
    assert result.exit_code == 0, result.output
    kept = baselines / key_name(ENVIRONMENT) / "report.json"
    assert read_report(kept) == good_report()
    result = invoke("regress", baselines, current)
    assert result.exit_code == 0, result.output

    worse = write(tmp_path / "worse.json", replace(good_report(), checks=good_report().checks[:2]))
    result = invoke("regress", baselines, worse)
    assert result.exit_code == 1, result.output
    assert "is missing" in result.stdout
    result = invoke("regress", baselines, worse, "--update")
    assert result.exit_code == 0, result.output
    assert "is missing" in result.stdout  # the difference is shown
    assert invoke("regress", baselines, worse).exit_code == 0

    foreign = write(tmp_path / "foreign.json", replace(good_report(), environment=replace(ENVIRONMENT, machine="arm")))
    result = invoke("regress", baselines, foreign)
    assert result.exit_code == 3, result.output
    assert "no baseline of this environment" in " ".join(result.stdout.split())
    assert invoke("regress", baselines, foreign, "--update").exit_code == 0
    assert len(files_in(baselines)) == 2


def test_a_single_file_is_a_baseline_too(tmp_path: Path) -> None:
    current = write(tmp_path / "current.json", good_report())
    baseline = tmp_path / "kept" / "baseline.json"
    assert invoke("regress", baseline, current, "--update").exit_code == 0
    assert files_in(tmp_path / "kept") == {"baseline.json"}
    more = write(tmp_path / "more.json", with_cell(good_report(), peak_allocated_bytes=2 * PEAK))
    assert invoke("regress", baseline, more).exit_code == 1
    assert invoke("regress", baseline, more, "--update").exit_code == 0
    assert read_report(baseline) == read_report(more)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (failed_report(), "the current report is no baseline: it is failed"),
        (replace(good_report(), checks=()), "it is inconclusive"),
        (replace(good_report(), environment=None), "it does not say where it was made"),
        (replace(good_report(), command="theworld-validate parity"), "name another baseline"),
    ],
)
def test_what_is_no_baseline_is_not_written(tmp_path: Path, report: Report, message: str) -> None:
    baseline = write(tmp_path / "kept" / "baseline.json", good_report())
    before = baseline.read_bytes()
    current = write(tmp_path / "current.json", report)
    assert_input_error(invoke("regress", baseline, current, "--update"), message)
    assert baseline.read_bytes() == before
    assert files_in(tmp_path / "kept") == {"baseline.json"}


def test_a_failed_report_is_no_pass_against_itself(tmp_path: Path) -> None:
    failed = write(tmp_path / "failed.json", failed_report())
    good = write(tmp_path / "good.json", good_report())
    assert invoke("regress", failed, failed).exit_code == 1
    assert invoke("regress", good, failed).exit_code == 1
    assert invoke("regress", failed, good).exit_code == 3


def damaged(**changes: object) -> str:
    from theworld_validate.documents.report import report_to_json

    return json.dumps({**report_to_json(good_report()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "bad.json"),
        ("[]", "bad.json"),
        ("{}", "schema"),
        (damaged(verdict="failed"), "verdict"),
        (damaged(verdict=None), "verdict"),
        (damaged(checks="none"), "checks"),
        (damaged(checks=[{"id": "a.b", "seconds": 1.0}]), "status"),
        (damaged(checks=[{"id": "a.b", "seconds": 1.0, "status": "fine"}]), "status"),
        (damaged(environment={"python": "3.11", "gpu": 5}), "gpu"),
        (damaged(environment={"python": "3.11", "gpu": "x" * 5000}), "gpu"),
        (damaged(environment={"python": "3.11", "packages": ["torch"]}), "packages"),
        (damaged(environment={"python": "3.11", "calibration_seconds": -1}), "calibration_seconds"),
        (damaged(seconds=-1.0), "seconds"),
    ],
)
def test_a_wrong_report_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    good = write(tmp_path / "good.json", good_report())
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    assert_input_error(invoke("regress", good, bad), "bad.json", message)
    assert_input_error(invoke("regress", bad, good), "bad.json", message)
    assert_input_error(invoke("regress", tmp_path / "kept", bad, "--update"), "bad.json", message)
    assert not (tmp_path / "kept").exists()


def test_a_report_without_the_fact_of_a_package_has_a_key() -> None:
    assert key_name(Environment(python="3.11.1")).startswith("cpu-torchnone-transformersnone-")
