"""Two fingerprint files: what differs around them is shown, what differs in them fails, what is missing is neither."""

from dataclasses import replace
from typing import Any

from tests.theworld_validate.parity.documents import PLAN, WEIGHT, tensor, whole, with_places
from theworld_validate.documents.fingerprint import FingerprintFile, make_file
from theworld_validate.documents.observations import PROBE_SECTIONS, SECTIONS, Fingerprint
from theworld_validate.parity.diff_files import compare_files, joint_plan
from theworld_validate.probes.probe import PROBE_NAMES
from theworld_validate.results import CheckResult, Environment, Status, SubjectRecord

SUBJECT = SubjectRecord(role="model", target="a:B", checkpoint="c", dtype="bfloat16", device="cpu")
ENVIRONMENT = Environment(python="3.11.7", packages={"torch": "2.11.0"})


def all_probes(fingerprint: Fingerprint) -> Fingerprint:
    """What is known of one probe, for every probe that there is."""
    for section in PROBE_SECTIONS:
        seen = fingerprint.subset(section, "text/")
        more = {key.replace("text/", f"{name}/"): value for name in PROBE_NAMES for key, value in seen.items()}
        fingerprint = with_places(fingerprint, section, more)
    return fingerprint


def file_of(fingerprint: Fingerprint, *, subject: SubjectRecord = SUBJECT, **environment: Any) -> FingerprintFile:
    surroundings = replace(ENVIRONMENT, **environment)
    return make_file(fingerprint, subject=subject, environment=surroundings, plan=replace(PLAN, probes=PROBE_NAMES))


def compared(reference: FingerprintFile, candidate: FingerprintFile) -> dict[str, CheckResult]:
    return {check.id: check for check in compare_files(reference, candidate)}


def test_equal_files_pass() -> None:
    file = file_of(all_probes(whole()))
    checks = compared(file, file)
    assert {check.status for check in checks.values()} == {Status.PASSED}
    assert next(iter(checks)) == "diff.surroundings"
    assert checks["diff.surroundings"].reason is None
    assert "parity.control" not in checks
    assert len([name for name in checks if name.startswith("parity.probe.")]) == len(PROBE_NAMES)


def test_other_surroundings_are_shown_and_no_failure() -> None:
    moved = replace(SUBJECT, role="candidate", device="cuda", printed="hello", printed_bytes=5)
    other = file_of(all_probes(whole()), subject=moved, packages={"torch": "2.12.0", "peft": "0.17"})
    checks = compared(file_of(all_probes(whole())), other)
    around = checks["diff.surroundings"]
    assert {check.status for check in checks.values()} == {Status.PASSED}
    assert around.reason == "3 kinds of difference between where and how the two were made"
    assert {(finding.severity, finding.location) for finding in around.findings} == {
        ("warning", "device"),
        ("warning", "packages.torch"),
        ("warning", "packages.peft"),
    }


def test_a_difference_fails_and_its_root_follows_the_surroundings() -> None:
    made = with_places(all_probes(whole()), "parameters", {WEIGHT: tensor(9)})
    checks = compared(file_of(all_probes(whole())), file_of(made))
    assert list(checks)[:2] == ["diff.surroundings", "parity.parameters"]
    assert checks["parity.parameters"].status is Status.FAILED
    assert (checks["parity.parameters"].findings[0].cause or "").startswith("weight bits: ")


def test_probes_that_a_file_lacks_are_inconclusive_even_where_both_lack_them() -> None:
    """A fingerprint of a few probes cannot pass for a whole one."""
    checks = compared(file_of(whole()), file_of(whole()))
    assert checks["parity.probe.text"].status is Status.PASSED
    lacking = {f"parity.probe.{name}" for name in PROBE_NAMES} - {"parity.probe.text", "parity.probe.image"}
    assert {name for name, check in checks.items() if check.status is not Status.PASSED} == lacking
    assert {checks[name].status for name in lacking} == {Status.INCONCLUSIVE}


def test_the_plan_is_whole_whatever_the_files_say_they_were_asked() -> None:
    few = make_file(
        whole(), subject=SUBJECT, environment=ENVIRONMENT, plan=replace(PLAN, sections=("config",), probes=())
    )
    assert joint_plan(few, few).sections == SECTIONS
    assert joint_plan(few, few).probes == PROBE_NAMES
    own = replace(few, plan=replace(PLAN, probes=("mine",)))
    assert joint_plan(few, own).probes == (*PROBE_NAMES, "mine")
