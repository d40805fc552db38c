"""The table of real bugs, and how one is judged: from planted documents, without a release."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import real_bug_classes
from benchmarks.real_bug_models import CONFIG_CHANGES, EAGER, NO_SHARED
from benchmarks.real_bugs import Bug, Laboratory, Say, read_bugs, render, try_bug
from tests.theworld_validate.releases.test_verdicts import A, B, _fingerprint, _seen
from theworld_validate.compare.causes import Cause
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.sketch import sketch_tensor
from theworld_validate.releases.requests import Answer, Exchange, Loading
from theworld_validate.releases.seen import Seen, Truth

BUG = Bug(
    source="x/y#1", about="a norm", model="gemma3", method="neighbours", bad="1", fixed="2", after="3",
    probes=("text",), place="norm", cause="kernel choice or code",
)  # fmt: skip

T = "d" * 32  # the truth, of which B is a rounding
SKETCHES = {A: sketch_tensor(torch.full((9,), 2.0)), B: sketch_tensor(torch.ones(9))}
TRUE_SKETCHES = {T: sketch_tensor(torch.ones(9, dtype=torch.float64) + 1e-8)}


class _Planted(Laboratory):
    """What each release gave, without running any."""

    def __init__(self, logits: dict[str, str], answers: dict[str, Answer] | None = None) -> None:
        self._logits, self._answers = logits, answers or {}

    def observe(self, wanted: Any, say: Say) -> None:
        pass

    def model(self, name: str) -> tuple[Path, str, tuple[str, ...]]:
        return Path(name), "transformers:X", ("text",)

    def answer(self, model: str, version: str, how: str) -> Answer:
        return self._answers[version]

    def seconds(self, wanted: Any) -> float:
        return float(len(wanted))

    def seen(self, model: str, version: str, how: str = "base") -> Seen:
        value = self._logits[version]
        return _seen(version, replace(_fingerprint(logits=value, norm=value), sketches=SKETCHES))

    def truth(self, model: str, version: str, names: tuple[str, ...], say: Say, own: str | None = None) -> Truth:
        assert names == ("text",) or not names
        exact = {"tensor": "float64[9]", "digest": T}
        sections = {"trace": {"text/tower.inner.norm": exact}, "outputs": {"text/logits": exact}}
        return Truth(fingerprint=Fingerprint(sections=sections, sketches=TRUE_SKETCHES))


def test_every_row_of_the_table_can_be_tried() -> None:
    bugs = read_bugs()
    assert len({(bug.source, bug.model, bug.bad) for bug in bugs}) == len(bugs)
    for bug in bugs:
        assert bug.cause in set(Cause)
        assert re.compile(bug.place)
        assert bug.bad != bug.fixed
        assert (bug.method == "files") == (bug.saved_by is not None)
        assert (bug.method == "saved") == (bug.read_by is not None)
        assert bug.own is None or hasattr(real_bug_classes, bug.own)
        for word in bug.model.split("+")[1:]:
            assert word in (*CONFIG_CHANGES, NO_SHARED, EAGER)


def test_a_bug_that_shows_is_caught_and_placed_and_the_fixed_release_is_silent() -> None:
    result = try_bug(BUG, _Planted({"1": A, "2": B, "3": B}), Say())
    assert (result.caught, result.placed, result.cause_right, result.silent) == (True, True, True, True)
    assert "1 tried: 1 caught, 1 placed, 1 causes right; 0 alarms" in render([result])
    assert result.seconds == 3.0  # a base in each of three releases


def test_a_newest_release_that_mends_it_must_load_the_checkpoint_whole() -> None:
    bug = replace(BUG, after=None)
    assert try_bug(bug, _Planted({"1": A, "2": B}), Say()).silent is True
    lab = _Planted({"1": A, "2": B})
    whole = lab.seen
    lost = Loading(num_keys=2, missing=("tower.inner.norm.weight",))
    lab.seen = lambda model, version, how="base": replace(whole(model, version, how), loading=lost)  # type: ignore[method-assign]
    assert try_bug(bug, lab, Say()).silent is False


def test_a_bug_that_does_not_show_is_not_caught() -> None:
    result = try_bug(BUG, _Planted({"1": B, "2": B, "3": B}), Say())
    assert (result.caught, result.placed, result.cause_right) == (False, False, False)


def test_without_a_truth_a_row_is_not_tried() -> None:
    class Lost(_Planted):
        def truth(self, *_arguments: Any, **_named: Any) -> Truth:
            return Truth(why_not="the truth was not made: it raises")

    result = try_bug(BUG, Lost({"1": A, "2": B, "3": B}), Say())
    assert not result.caught
    assert "1: undecidable: " in str(result.why_not)


def test_a_change_after_the_fix_is_an_alarm() -> None:
    result = try_bug(BUG, _Planted({"1": A, "2": B, "3": A}), Say())
    assert result.silent is False
    assert "1 alarms in fixed releases" in render([result])


@pytest.mark.parametrize(("lost", "caught"), [(("tower.weight",), True), ((), False)])
def test_files_that_only_the_bad_release_cannot_read(lost: tuple[str, ...], caught: bool) -> None:
    answers = {
        "1": Answer(loads={"9": Exchange(loading=Loading(num_keys=2, missing=lost))}),
        "2": Answer(loads={"9": Exchange(loading=Loading(num_keys=2))}),
    }
    bug = replace(BUG, method="files", saved_by="9", after=None, place="tower", cause="lost key")
    result = try_bug(bug, _Planted({}, answers), Say())
    assert (result.caught, result.silent) == (caught, True)
    assert result.cause_right is caught
