"""Problems with a checkpoint's files: each kind is an error or a warning with a cause and a remedy of its own."""

import pytest

from theworld_validate.compare.causes import Cause, classify
from theworld_validate.compare.file_problems import file_findings
from theworld_validate.documents.observations import Section

ERRORS = (
    "missing",
    "unexpected",
    "mismatched",
    "mistyped",
    "empty",
    "shadowed",
    "non_finite",
    "all_zero",
    "tied_different",
    "damaged",
)
WARNINGS = ("cast", "tied_twice", "duplicated_equal", "unread")


def problem(kind: str, detail: str | None = None) -> Section:
    return {"a.weight": {"problem": kind, "detail": detail}}


def test_files_without_a_problem_have_no_finding() -> None:
    assert file_findings({"(summary)": {"keys": 3, "parameters": None}}) == []
    assert file_findings({}) == []


@pytest.mark.parametrize("kind", ERRORS)
def test_what_leaves_a_weight_other_than_the_files_say_is_an_error(kind: str) -> None:
    (finding,) = file_findings(problem(kind))
    assert (finding.severity, finding.code, finding.location) == ("error", f"files.{kind}", "a.weight")
    assert (finding.section, finding.field) == ("files", kind)
    assert finding.message == f"a.weight: {kind.replace('_', ' ')} in the checkpoint's files"


def test_each_kind_of_error_has_its_own_cause_and_remedy() -> None:
    found = [finding for kind in ERRORS for finding in file_findings(problem(kind))]
    assert len({finding.cause for finding in found}) == len(ERRORS)
    assert all(finding.remedy for finding in found)


@pytest.mark.parametrize("kind", WARNINGS)
def test_what_leaves_every_weight_as_the_files_say_is_a_warning(kind: str) -> None:
    (finding,) = file_findings(problem(kind))
    assert (finding.severity, finding.code) == ("warning", f"files.{kind}")


def test_a_kind_that_is_not_known_is_an_error() -> None:
    (finding,) = file_findings(problem("something_new"))
    assert finding.severity == "error"
    assert finding.cause
    assert finding.remedy


def test_the_detail_is_said() -> None:
    (finding,) = file_findings(problem("mismatched", "[2] in a.safetensors, the model's is [3]"))
    assert finding.message.endswith("files ([2] in a.safetensors, the model's is [3])")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("missing", Cause.LOST_KEY),
        ("unexpected", Cause.EXTRA_KEY),
        ("shadowed", Cause.SHADOWED_FILE),
        ("empty", Cause.CHECKPOINT_FILES),
        ("non_finite", Cause.CHECKPOINT_FILES),
        ("damaged", Cause.CHECKPOINT_FILES),
    ],
)
def test_each_kind_has_its_kind_of_cause(kind: str, cause: Cause) -> None:
    (finding,) = file_findings(problem(kind))
    assert classify(finding) is cause
