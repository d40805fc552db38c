"""Every fault of the catalogue is caught, placed and explained; and the self-test itself can fail."""

from dataclasses import replace
from typing import Any

import pytest

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.compare.causes import Cause
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.faults.selftest import _base_against_base, _rates, _try_fault, run_selftest
from theworld_validate.fingerprint.take import take_fingerprint
from theworld_validate.probes.gemma3 import Probe, build_probes
from theworld_validate.results import Status
from theworld_validate.subjects.subject import CANDIDATE_TARGET, REFERENCE_TARGET, Subject, read_config

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # faults provoke their libraries
]


@pytest.fixture(scope="module")
def subject(tiny: SyntheticCheckpoint) -> Subject:
    return Subject(target=CANDIDATE_TARGET, checkpoint=str(tiny.gemma))


@pytest.fixture(scope="module")
def probes(subject: Subject) -> tuple[Probe, ...]:
    return build_probes(read_config(subject.checkpoint))


@pytest.fixture(scope="module")
def reference(subject: Subject, probes: tuple[Probe, ...]) -> tuple[Any, Fingerprint]:
    model = replace(subject, target=REFERENCE_TARGET).load()
    return model, take_fingerprint(model, probes)


def test_the_catalogue_is_large_and_cited() -> None:
    assert len(CATALOGUE) >= 48
    assert all(entry.seen and entry.causes for entry in CATALOGUE.values())
    assert len({entry.group for entry in CATALOGUE.values()}) == 7


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_fault_is_caught_placed_and_explained(
    name: str, subject: Subject, probes: tuple[Probe, ...], reference: tuple[Any, Fingerprint]
) -> None:
    check = _try_fault(CATALOGUE[name], subject, *reference, probes)
    assert check.status is Status.PASSED, [finding.actual for finding in check.findings]


def test_no_fault_is_no_detection(
    subject: Subject, probes: tuple[Probe, ...], reference: tuple[Any, Fingerprint]
) -> None:
    harmless = replace(CATALOGUE["train-mode"], name="harmless", inject=lambda model: None)
    check = _try_fault(harmless, subject, *reference, probes)
    assert check.status is Status.FAILED
    assert check.measurements["detected"] is False
    rates = _rates([check])
    assert rates.status is Status.FAILED
    assert {finding.code for finding in rates.findings} == {
        "selftest.rate_detected",
        "selftest.rate_location",
        "selftest.rate_cause",
    }


def test_a_wrong_expectation_is_a_miss(
    subject: Subject, probes: tuple[Probe, ...], reference: tuple[Any, Fingerprint]
) -> None:
    wrong = replace(CATALOGUE["train-mode"], location="nowhere", causes=(Cause.WEIGHT_BITS,))
    check = _try_fault(wrong, subject, *reference, probes)
    assert [finding.code for finding in check.findings] == ["selftest.location_right", "selftest.cause_right"]


def test_base_against_base_is_clean_and_counts_its_runs(subject: Subject, probes: tuple[Probe, ...]) -> None:
    check = _base_against_base(subject, probes[:2], 5, lambda step: None)
    assert check.status is Status.PASSED
    assert check.measurements == {"runs": 5, "false_findings": 0}


def test_a_fault_that_cannot_exist_here_is_skipped_and_not_counted(
    subject: Subject, probes: tuple[Probe, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    needs_gpu = replace(CATALOGUE["train-mode"], needs_cuda=True)
    skipped, rates = run_selftest(subject, probes[:1], faults=[needs_gpu], num_base_runs=0)
    assert skipped.status is Status.SKIPPED
    assert skipped.reason
    assert rates.status is Status.INCONCLUSIVE
