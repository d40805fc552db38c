"""The day of an upgrade: a baseline of another environment, settled by the fingerprints beside both reports."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.compare.rounded import fingerprint_of, rounded, truth_tensors, whole
from tests.theworld_validate.regression.reports import ENVIRONMENT, SUBJECT, good_report, write
from theworld_validate.documents.fingerprint import FingerprintFile, write_fingerprint
from theworld_validate.regression.command import compare_with_baseline
from theworld_validate.results import CheckResult, Status

NUMBERS = truth_tensors()
NEW = replace(ENVIRONMENT, packages={**ENVIRONMENT.packages, "torch": "2.14.0"})


def file_of(tensors: Any, environment: Any = ENVIRONMENT, **changes: Any) -> FingerprintFile:
    """A fingerprint of what the reports are about; of another family, so that one probe is enough."""
    subject = replace(SUBJECT, role="model", **changes)
    return replace(whole(fingerprint_of(tensors)), subject=subject, environment=environment)


REFERENCE = file_of(rounded(NUMBERS))
TRUTH = file_of(NUMBERS, dtype="float32")
EQUIVALENT = file_of(rounded(NUMBERS, seed=1), NEW)
WRONG = file_of(rounded(NUMBERS, seed=1, times=9, only="layers.1"), NEW)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of baselines with one of another environment, and a report of today; fingerprints beside both."""
    baselines, current = tmp_path / "baselines", tmp_path / "current"
    write(baselines / "old" / "report.json", good_report())
    write(current / "report.json", replace(good_report(), environment=NEW))
    write_fingerprint(REFERENCE, baselines / "old" / "fingerprint.json")
    write_fingerprint(TRUTH, baselines / "old" / "fingerprint.truth.json")
    write_fingerprint(EQUIVALENT, current / "fingerprint.json")
    return baselines, current


def environment_check(baselines: Path, current: Path) -> CheckResult:
    checks = {check.id: check for check in compare_with_baseline(baselines, current, accept_rounding=True)}
    return checks["regress.environment"]


def test_an_upgrade_that_only_rounds_otherwise_passes(folders: tuple[Path, Path]) -> None:
    check = environment_check(*folders)
    assert check.status is Status.PASSED, check
    assert "torch was 2.13.0, is 2.14.0; equivalent: the worst place is 1." in str(check.reason)
    arguments = ("regress", *folders, "--quiet")
    assert invoke(*arguments).exit_code == 3
    assert invoke(*arguments, "--accept", "equivalent").exit_code == 0


def test_an_upgrade_that_changes_a_layer_fails_there(folders: tuple[Path, Path]) -> None:
    write_fingerprint(WRONG, folders[1] / "fingerprint.json")
    check = environment_check(*folders)
    assert check.status is Status.FAILED
    assert check.findings[0].key == "trace.ratio@p/layers.1.self_attn"
    assert invoke("regress", *folders, "--quiet", "--accept", "equivalent").exit_code == 1


@pytest.mark.parametrize(
    ("made", "file"), [(REFERENCE, "fingerprint.json"), (TRUTH, "fingerprint.truth.json")], ids=["baseline", "truth"]
)
def test_one_of_an_earlier_version_is_undecidable_and_says_so(
    folders: tuple[Path, Path], made: FingerprintFile, file: str
) -> None:
    write_fingerprint(replace(made, schema="theworld-fingerprint/3"), folders[0] / "old" / file)
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert "was made by an earlier version (theworld-fingerprint/3)" in str(check.reason)
    assert invoke("regress", *folders, "--quiet", "--accept", "equivalent").exit_code == 3


@pytest.mark.parametrize("gone", ["baselines/old/fingerprint.json", "current/fingerprint.json"])
def test_without_a_fingerprint_it_is_undecidable_and_the_remedy_is_said(
    folders: tuple[Path, Path], tmp_path: Path, gone: str
) -> None:
    (tmp_path / gone).unlink()
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert f"undecidable: {tmp_path / gone} is missing; make it there with theworld-validate" in str(check.reason)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"environment": ENVIRONMENT}, "was made elsewhere than its report: torch was 2.14.0, is 2.13.0"),
        ({"subject": replace(EQUIVALENT.subject, target="another:model")}, "is of another target than its report"),
        ({"subject": replace(EQUIVALENT.subject, checkpoint_digest="abd")}, "is of another checkpoint digest than"),
        ({"subject": replace(EQUIVALENT.subject, dtype="float32")}, "is of another dtype than its report"),
        ({"subject": replace(EQUIVALENT.subject, seed=1)}, "is of another seed than its report"),
    ],
)
def test_a_fingerprint_of_something_else_than_its_report_decides_nothing(
    folders: tuple[Path, Path], change: dict[str, Any], why: str
) -> None:
    write_fingerprint(replace(EQUIVALENT, **change), folders[1] / "fingerprint.json")
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert why in str(check.reason)


def test_a_report_that_does_not_say_what_it_is_about_is_not_settled(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "report.json", replace(good_report(), environment=NEW, subjects=()))
    assert "has a report that names no model" in str(environment_check(*folders).reason)
    bare = replace(SUBJECT, checkpoint_digest=None)
    write(folders[1] / "report.json", replace(good_report(), environment=NEW, subjects=(bare,)))
    assert "is of another checkpoint digest than its report" in str(environment_check(*folders).reason)


def test_without_the_truth_or_with_one_of_another_release_it_is_undecidable(folders: tuple[Path, Path]) -> None:
    place = folders[0] / "old" / "fingerprint.truth.json"
    write_fingerprint(replace(TRUTH, environment=NEW), place)
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert "another release of torch than the reference" in str(check.reason)
    place.unlink()
    check = environment_check(*folders)
    assert check.status is Status.INCONCLUSIVE
    assert "there is no truth" in str(check.reason)
    write_fingerprint(TRUTH, folders[1] / "fingerprint.truth.json")  # that of the upgrade, beside the wrong report
    assert "there is no truth" in str(environment_check(*folders).reason)


def test_a_fingerprint_that_was_cut_is_no_pass(folders: tuple[Path, Path]) -> None:
    sections = {name: seen for name, seen in EQUIVALENT.sections.items() if name != "round_trip"}
    counts = {name: EQUIVALENT.num_observations[name] for name in sections}
    cut = replace(EQUIVALENT, sections=sections, num_observations=counts)
    write_fingerprint(cut, folders[1] / "fingerprint.json")
    assert environment_check(*folders).status is not Status.PASSED


def test_several_baselines_of_other_environments_are_no_choice(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "older" / "report.json", good_report())
    result = invoke("regress", *folders, "--accept", "equivalent")
    assert_input_error(result, "several baselines of other environments; name one: old, older")
