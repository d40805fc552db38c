"""Faults of every group are caught, placed and explained; and the self-test itself can fail."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.compare.causes import Cause
from theworld_validate.compare.explain import contradictions as contradictions_of
from theworld_validate.faults import selftest, verdicts
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.faults.loader import FaultySubject
from theworld_validate.faults.selftest import run_selftest
from theworld_validate.parity.planning import plan_parity
from theworld_validate.results import CheckResult, Finding, InputError, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import REFERENCE_TARGET, Target
from theworld_validate.workers.messages import Message
from theworld_validate.workers.run import Run

# One or two of each group; the whole catalogue is the test that is marked `selftest`.
FAULTS = (
    "eager-attention",
    "lost-key",
    "static-cache-one-token-short",
    "rotary-in-bfloat16",
    "random-head-from-lost-tie",
    "matmul-precision-lowered",
    "patched-forward",
    "gradient-hook",
    "saved-in-higher-precision",
    "other-keys-on-disk",
    "one-rate-for-all-groups",
)
# Made for this test: what its worker injects in place of each.
INJECTED = {"no-fault": None, "wrong-expectation": "train-mode", "contradicted": "one-module-in-train-mode"}
_TRAIN = CATALOGUE["train-mode"]
MADE = {
    "no-fault": replace(_TRAIN, name="no-fault"),
    "wrong-expectation": replace(_TRAIN, name="wrong-expectation", location="nowhere", causes=(Cause.WEIGHT_BITS,)),
    "contradicted": replace(CATALOGUE["one-module-in-train-mode"], name="contradicted"),
    "unheard-of": replace(_TRAIN, name="unheard-of", location=r"\(model\)"),  # its worker does not know it
    "needs-cuda": replace(_TRAIN, name="needs-cuda", needs_cuda=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedSubject(FaultySubject):
    """A faulty subject in whose worker the faults made for this test are known too."""

    def load(self) -> Any:
        fault = INJECTED.get(self.fault, self.fault)
        return self.subject.load() if fault is None else FaultySubject(fault=fault, subject=self.subject).load()


class RunWithoutGpu(Run):
    """A run whose workers see no GPU."""

    def tell(self, message: Message, *, who: str | None = None) -> None:
        Run.tell(self, message, who=who)
        if self.environment is not None:
            self.environment = replace(self.environment, gpu=None)


def contradictions(findings: Sequence[Finding]) -> tuple[str, ...]:
    """A sentence on one of the faults made for this test; the true ones on all others."""
    module = [finding.location for finding in findings if finding.code == "modules.training"]
    is_one_module = module and module[0] != "(model)"
    return ("it is so | it is not so",) if is_one_module else contradictions_of(findings)


@pytest.fixture(scope="module", autouse=True)
def _made_faults() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selftest, "FaultySubject", PlantedSubject)
        patch.setattr(verdicts, "contradictions", contradictions)
        for name, fault in MADE.items():
            patch.setitem(CATALOGUE, name, fault)
        yield


@pytest.fixture(scope="module")
def target(tiny: SyntheticCheckpoint) -> Target:
    return Target(checkpoint=str(tiny.gemma))


@pytest.fixture(scope="module")
def checks(target: Target) -> dict[str, CheckResult]:
    """One run over all that this file looks at."""
    run = RunWithoutGpu()
    made = run_selftest(target, run=run, names=(*FAULTS, *MADE), num_base_runs=0)
    return {check.id.removeprefix("selftest."): check for check in made}


def test_every_group_is_looked_at() -> None:
    groups = {CATALOGUE[name].group for name in FAULTS}
    assert groups == {entry.group for entry in CATALOGUE.values()}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_placed_and_explained(checks: dict[str, CheckResult], name: str) -> None:
    check = checks[name]
    assert check.status is Status.PASSED, [finding.actual for finding in check.findings]
    assert check.measurements["detected"] is True
    assert check.measurements["group"] == CATALOGUE[name].group
    assert check.measurements["likely_cause"] in {str(cause) for cause in CATALOGUE[name].causes}


def test_no_fault_is_no_detection(checks: dict[str, CheckResult]) -> None:
    check = checks["no-fault"]
    assert check.status is Status.FAILED
    assert check.measurements["detected"] is False
    assert check.measurements["findings"] == 0
    assert [(finding.code, finding.actual) for finding in check.findings] == [
        ("selftest.detected", "no finding"),
        ("selftest.location_right", "no finding"),
        ("selftest.cause_right", "no finding"),
    ]


def test_a_wrong_expectation_is_a_miss(checks: dict[str, CheckResult]) -> None:
    check = checks["wrong-expectation"]
    assert check.status is Status.FAILED
    assert [finding.code for finding in check.findings] == ["selftest.location_right", "selftest.cause_right"]
    assert check.findings[0].expected == "modules: weight bits at nowhere"
    assert check.findings[0].actual == "modules.training: mode flag at (model)"


def test_a_fault_that_cannot_exist_here_is_skipped_and_not_counted(checks: dict[str, CheckResult]) -> None:
    check = checks["needs-cuda"]
    assert (check.status, check.reason) == (Status.SKIPPED, "this fault cannot exist without a CUDA device")
    assert checks["rates"].measurements["skipped"] == 1
    assert checks["rates"].measurements["faults"] == len(FAULTS) + len(MADE) - 1


def test_an_error_in_place_of_the_fault_is_no_detection(checks: dict[str, CheckResult]) -> None:
    """Its worker raises: that must not look as if the fault were caught."""
    check = checks["unheard-of"]
    assert check.status is Status.FAILED
    assert check.measurements["detected"] is False
    assert check.measurements["likely_code"] == "files.refused"


def test_a_contradiction_is_a_finding(checks: dict[str, CheckResult]) -> None:
    check = checks["contradicted"]
    assert check.status is Status.FAILED
    (finding,) = check.findings
    assert (finding.code, finding.message) == ("selftest.contradiction", "contradicted: it is so | it is not so")
    assert check.measurements["detected"] is check.measurements["cause_right"] is True


def test_the_rates_fail_with_what_was_missed(checks: dict[str, CheckResult]) -> None:
    """Two are not detected, and three neither placed nor explained; a contradiction is no miss."""
    rates = checks["rates"]
    ran = len(FAULTS) + len(MADE) - 1
    assert rates.status is Status.FAILED
    assert rates.measurements["detected_rate"] == (ran - 2) / ran
    assert rates.measurements["location_rate"] == rates.measurements["cause_rate"] == (ran - 3) / ran
    assert {finding.code for finding in rates.findings} == {
        "selftest.rate_detected",
        "selftest.rate_location",
        "selftest.rate_cause",
    }


def test_rates_of_what_was_caught_and_of_nothing(checks: dict[str, CheckResult]) -> None:
    assert verdicts.rates_of([checks[name] for name in FAULTS]).status is Status.PASSED
    nothing = verdicts.rates_of([checks["needs-cuda"]])
    assert (nothing.status, nothing.reason) == (Status.INCONCLUSIVE, "no fault could be injected here")


# Ways of loading that are right, on one probe.


def load_in_right_ways(target: Target, num_runs: int) -> CheckResult:
    reference = Subject(target=REFERENCE_TARGET, checkpoint=target.checkpoint)
    run = Run()
    return selftest._right_ways(reference, plan_parity(reference, run, ("text",)), num_runs, run)


def test_right_ways_are_clean_and_counted(target: Target) -> None:
    check = load_in_right_ways(target, 2)
    assert (check.id, check.status, check.findings) == ("selftest.right_ways", Status.PASSED, ())
    assert check.measurements == {
        "runs": 2,
        "false_findings": 0,
        "ways": [
            {"way": way, "dtype": "float32", "attention": "sdpa", "false_findings": 0}
            for way in ("base_class", "theworld")
        ],
    }


def test_a_way_that_is_not_right_has_false_findings(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "tests.theworld_validate.faulty_candidates:train_mode"
    monkeypatch.setattr(selftest, "RIGHT_WAYS", {"base_class": REFERENCE_TARGET, "in_train_mode": wrong})
    check = load_in_right_ways(target, 2)
    assert check.status is Status.FAILED
    assert check.measurements["false_findings"] == len(check.findings) > 0
    assert all(finding.message.startswith("in_train_mode, float32, sdpa: ") for finding in check.findings)


def test_a_way_that_does_not_load_is_no_pass(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "tests.theworld_validate.faulty_candidates:not_a_model"
    monkeypatch.setattr(selftest, "RIGHT_WAYS", {"broken": wrong})
    check = load_in_right_ways(target, 1)
    assert check.status is Status.FAILED
    assert [finding.code for finding in check.findings] == ["selftest.not_passed"]


def test_a_name_that_is_not_in_the_catalogue_is_one_line(target: Target) -> None:
    with pytest.raises(InputError, match=r"--fault sign-flop: no such fault; did you mean sign-flip\?"):
        list(run_selftest(target, run=Run(), names=("sign-flop",)))


@pytest.mark.selftest
def test_the_whole_catalogue_is_caught_placed_and_explained(target: Target) -> None:
    """And no way of loading that is right has a finding."""
    names = [name for name in CATALOGUE if name not in MADE]
    checks = list(run_selftest(target, run=Run(), names=names))
    missed = {check.id: [f.actual for f in check.findings] for check in checks if check.status is Status.FAILED}
    assert missed == {}
    assert len(checks) == len(names) + 3
