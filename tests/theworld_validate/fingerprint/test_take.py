"""A whole fingerprint: parts as they come, a step that raises costs itself, and both ways give the same."""

from typing import Any

import pytest
import torch

from tests.theworld_validate.subjects import loaders
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.documents.observations import EMPTY, SECTIONS, STATE_SECTIONS
from theworld_validate.fingerprint import take
from theworld_validate.fingerprint.take import (
    count_run_steps,
    count_steps,
    fingerprint_run,
    observe,
    observe_run,
    take_fingerprint,
)
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.probes.probe import Probe
from theworld_validate.subjects.checkpoints import read_config


@pytest.fixture(scope="module")
def probes(tiny: SyntheticCheckpoint) -> list[Probe]:
    return [probe for probe in build_probes(read_config(str(tiny.gemma))) if probe.name == "image"]


def test_every_section_comes_in_steps_that_are_announced(gemma: Any, probes: list[Probe]) -> None:
    steps = list(observe(gemma, probes, announce=True))
    announced = [name for name, part in steps if part is EMPTY]
    assert announced == [name for name, part in steps if part is not EMPTY]
    assert len(announced) == count_steps(probes)
    assert (announced[0], announced[-3:]) == ("state", ["gradients", "state again", "round trip"])
    seen = EMPTY
    for _, part in steps:
        seen = seen.merge(part)
    assert seen.failures == ()
    assert set(seen.sections) == set(SECTIONS) - {"files"}
    told: list[str] = []
    again = take_fingerprint(gemma, probes, progress=told.append)
    assert {**again.sections, "globals": {}} == {**seen.sections, "globals": {}}  # random numbers were drawn meanwhile
    assert told == announced
    control = fingerprint_run(gemma, probes)
    assert control.sections == {name: seen.sections[name] for name in ("trace", "outputs", "generation", "gradients")}


def test_a_part_can_be_asked_for_alone(gemma: Any, probes: list[Probe]) -> None:
    assert [name for name, _ in observe(gemma, probes, only=("round_trip",))] == ["round trip"]
    ((_, part),) = observe(gemma, probes, only=("parameters", "globals"))
    assert set(part.sections) == {"parameters", "globals"}
    assert "round trip" not in [name for name, _ in observe(gemma, (), round_trip=False)]
    assert len(list(observe_run(gemma, probes))) == count_run_steps(probes)


class OddError(BaseException):
    pass


def test_a_step_that_raises_is_said_and_the_others_go_on(
    gemma: Any, probes: list[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_inputs: Any, **_arguments: Any) -> Any:
        raise OddError("not today")

    monkeypatch.setattr(gemma, "forward", fail)
    seen = take_fingerprint(gemma, probes)
    assert {failure.section for failure in seen.failures} == {"trace", "outputs", "generation", "gradients"}
    assert all("OddError: not today" in failure.error for failure in seen.failures)
    assert all(failure.place.startswith(__file__) for failure in seen.failures)
    assert {*STATE_SECTIONS, "round_trip"} <= set(seen.sections)


@pytest.mark.parametrize("step", ["fingerprint_state", "fingerprint_gradients", "fingerprint_round_trip"])
def test_an_interrupt_ends_it(gemma: Any, step: str, probes: list[Probe], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_inputs: Any, **_arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(take, step, interrupted)
    monkeypatch.setattr(take, "behaviour_steps", lambda *_inputs, **_arguments: iter(()))
    with pytest.raises(KeyboardInterrupt):
        take_fingerprint(gemma, probes)


@pytest.mark.parametrize("loader", [loaders.wrapped, loaders.holder, loaders.returns_pair])
def test_a_wrapped_model_answers_as_the_model_inside(
    tiny: SyntheticCheckpoint, probes: list[Probe], loader: Any
) -> None:
    sections = ("trace", "outputs", "generation", "gradients")
    expected = fingerprint_run(loaders.auto(str(tiny.gemma), dtype=torch.float32), probes)
    seen = fingerprint_run(loader(str(tiny.gemma), dtype=torch.float32), probes)
    assert seen.failures == ()
    assert {name: seen.sections[name] for name in sections} == {name: expected.sections[name] for name in sections}


def test_gradients_of_an_adapter_have_the_bases_names(tiny: SyntheticCheckpoint, probes: list[Probe]) -> None:
    model = loaders.peft_fresh(str(tiny.gemma), dtype=torch.float32)
    ((_, part),) = observe_run(model, probes, only=("gradients",))
    seen = part.sections["gradients"]
    assert seen["model.language_model.layers.0.self_attn.q_proj.weight"] == {"gradient": "none"}
    assert "digest" in seen["model.language_model.layers.0.self_attn.q_proj.lora_B.default.weight"]


def test_an_offloaded_model_has_no_gradients_and_says_why(tiny: SyntheticCheckpoint, probes: list[Probe]) -> None:
    ((_, part),) = observe_run(loaders.offloaded(str(tiny.gemma)), probes, only=("gradients",))
    (failure,) = part.failures
    assert failure.section == "gradients"
    assert "load the model without offloading" in failure.error
