"""The day of an upgrade: a baseline of another environment, settled by the fingerprints beside both reports."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.compare.rounded import fingerprint_of, rounded, truth_tensors, whole
from tests.theworld_validate.regression.reports import ENVIRONMENT, good_report, write
from theworld_validate.documents.fingerprint import write_fingerprint
from theworld_validate.regression.command import compare_with_baseline
from theworld_validate.results import CheckResult, Status

NUMBERS = truth_tensors()
NEW = replace(ENVIRONMENT, packages={**ENVIRONMENT.packages, "torch": "2.14.0"})
FILES = {
    "fingerprint.json": whole(fingerprint_of(rounded(NUMBERS))),
    "fingerprint.truth.json": whole(fingerprint_of(NUMBERS)),
}
EQUIVALENT = whole(fingerprint_of(rounded(NUMBERS, seed=1)))
WRONG = whole(fingerprint_of(rounded(NUMBERS, seed=1, times=9, only="layers.1")))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of baselines with one of another environment, and a report of today; fingerprints beside both."""
    baselines, current = tmp_path / "baselines", tmp_path / "current"
    write(baselines / "old" / "report.json", good_report())
    write(current / "report.json", replace(good_report(), environment=NEW))
    for name, file in FILES.items():
        write_fingerprint(file, baselines / "old" / name)
    write_fingerprint(EQUIVALENT, current / "fingerprint.json")
    return baselines, current


def environment_check(baselines: Path, current: Path) -> CheckResult:
    checks = {check.id: check for check in compare_with_baseline(baselines, current, accept_rounding=True)}
    return checks["regress.environment"]


def test_an_upgrade_that_only_rounds_otherwise_passes(folders: tuple[Path, Path]) -> None:
    baselines, current = folders
    check = environment_check(baselines, current)
    assert check.status is Status.PASSED
    assert "torch was 2.13.0, is 2.14.0; equivalent: the worst place is 1." in str(check.reason)
    arguments = ("regress", baselines, current, "--quiet")
    assert invoke(*arguments).exit_code == 3
    assert invoke(*arguments, "--accept", "equivalent").exit_code == 0


def test_an_upgrade_that_changes_a_layer_fails_there(folders: tuple[Path, Path]) -> None:
    baselines, current = folders
    write_fingerprint(WRONG, current / "fingerprint.json")
    check = environment_check(baselines, current)
    assert check.status is Status.FAILED
    assert check.findings[0].key == "trace.ratio@p/layers.1.self_attn"
    assert "torch was 2.13.0, is 2.14.0" in str(check.findings[0].cause)
    assert invoke("regress", baselines, current, "--quiet", "--accept", "equivalent").exit_code == 1


@pytest.mark.parametrize("gone", ["baselines/old/fingerprint.json", "current/fingerprint.json"])
def test_without_a_fingerprint_it_is_undecidable_and_the_remedy_is_said(
    folders: tuple[Path, Path], tmp_path: Path, gone: str
) -> None:
    (tmp_path / gone).unlink()
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert f"undecidable: {tmp_path / gone} is missing; make it with theworld-validate fingerprint" in str(check.reason)


def test_without_the_truth_it_is_undecidable(folders: tuple[Path, Path]) -> None:
    (folders[0] / "old" / "fingerprint.truth.json").unlink()
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert "there is no truth" in str(check.reason)


def test_several_baselines_of_other_environments_are_no_choice(folders: tuple[Path, Path]) -> None:
    baselines, current = folders
    write(baselines / "older" / "report.json", good_report())
    result = invoke("regress", baselines, current, "--accept", "equivalent")
    assert_input_error(result, "several baselines of other environments; name one: old, older")
