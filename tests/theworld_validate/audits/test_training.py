"""A right training passes every aspect; each fault of the catalogue fails its own, with its place and cause."""

import re
from collections.abc import Iterator

import pytest

from theworld_validate.audits import training
from theworld_validate.audits.training import ASPECTS, check_training
from theworld_validate.audits.training_runs import Left, Runs
from theworld_validate.compare.causes import Cause, classify
from theworld_validate.faults.base import Fault
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.suite import training as audit
from theworld_validate.workers.run import Run

FAULTS = {name: entry for name, entry in CATALOGUE.items() if entry.group == "training"}
SPOILS_THE_WHOLE_RUN = ("frozen", "export")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A right run, which most aspects hold another one against."""
    return Runs(tmp_path_factory.mktemp("whole")).whole


@pytest.fixture(scope="module")
def right(whole: Left) -> dict[str, CheckResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runs, "whole", whole)
        return {check.id: check for check in check_training()}


def test_a_right_training_passes_every_aspect(right: dict[str, CheckResult]) -> None:
    assert list(right) == [f"training.{name}" for name in ASPECTS]
    assert {check.status for check in right.values()} == {Status.PASSED}
    assert right["training.rates"].measurements["first_step_world_projection"] == pytest.approx(1e-2, rel=0.01)
    assert right["training.reduction"].measurements["modules_sharded"] == 14
    assert right["training.export"].measurements["tensors_compared"] == 109


def test_every_aspect_has_a_fault() -> None:
    assert {entry.section for entry in FAULTS.values()} == set(ASPECTS)


@pytest.mark.parametrize("entry", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_caught_placed_and_explained(entry: Fault, whole: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    if entry.section not in SPOILS_THE_WHOLE_RUN:
        monkeypatch.setattr(Runs, "whole", whole)
    with entry.around():
        (check,) = check_training((entry.section,))
    assert check.status is Status.FAILED
    first = check.findings[0]
    assert first.section == entry.section
    assert re.search(entry.location, first.location)
    assert classify(first) in entry.causes


@pytest.fixture
def forgets_the_optimizer() -> Iterator[None]:
    from theworld.training import checkpoint

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "load_optimizer", lambda *_: None)
        yield


def test_an_optimizer_that_begins_anew_is_told_from_weights_that_do(
    whole: Left, forgets_the_optimizer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loss after the end is the same: it is of the weights alone."""
    monkeypatch.setattr(Runs, "whole", whole)
    (check,) = check_training(("resume",))
    (finding,) = check.findings
    assert classify(finding) is Cause.RESUMED_STATE
    assert finding.expected == whole.losses[2] != finding.actual


def test_a_run_that_is_not_sharded_is_no_pass(whole: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    from theworld.training import sharding

    monkeypatch.setattr(Runs, "whole", whole)
    monkeypatch.setattr(sharding, "use_plugin", lambda *_, **__: False)
    (check,) = check_training(("reduction",))
    assert [finding.message for finding in check.findings] == ["FSDP2 was asked for, and no module was sharded"]


def test_weights_that_come_back_rounded_are_found(whole: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = {name: tensor.bfloat16().float() for name, tensor in whole.weights(3).items()}
    monkeypatch.setattr(Left, "weights", lambda *_: rounded)
    monkeypatch.setattr(Runs, "whole", whole)
    (check,) = check_training(("export",))
    assert {classify(finding) for finding in check.findings} == {Cause.SAVING}
    assert check.findings[0].location in rounded


def test_a_gradient_that_is_missing_is_found(whole: Left) -> None:
    given = whole.first_gradients()
    name = next(iter(given))
    found = training._most_apart(given, {key: tensor for key, tensor in given.items() if key != name})
    assert (found.name, found.apart) == (name, float("inf"))
    assert training._most_apart(given, given).apart == 0.0


def test_an_aspect_that_there_is_not_is_one_line() -> None:
    with pytest.raises(InputError, match=r"--aspect resumes: there is no such aspect; .*did you mean resume\?"):
        list(audit(Run(), aspects=("resumes",)))
