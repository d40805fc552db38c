"""Gradients: a pass that raises costs itself alone, and every way in which a model is trained gives them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.gradients import fingerprint_gradients
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.probes.probe import GradientProbes, Probe
from theworld_validate.subjects.checkpoints import read_config

WEIGHT = "model.language_model.layers.0.mlp.up_proj.weight"


def shortened(probe: Probe, length: int) -> Probe:
    assert probe.labels is not None
    inputs = {name: array[:, :length] if name in probe.per_token else array for name, array in probe.inputs.items()}
    return replace(probe, inputs=inputs, labels=probe.labels[:, :length])


@pytest.fixture(scope="module")
def probes(tiny: SyntheticCheckpoint) -> GradientProbes:
    """Two short texts, the first in the place of the prompt with an image."""
    (text,) = [probe for probe in build_probes(read_config(str(tiny.gemma))) if probe.name == "text"]
    return GradientProbes(whole=shortened(text, 12), text=shortened(text, 8), embeds=shortened(text, 8))


@pytest.fixture(scope="module")
def plain(tiny: SyntheticCheckpoint, probes: GradientProbes) -> Fingerprint:
    return fingerprint_gradients(load(tiny), probes)


def load(tiny: SyntheticCheckpoint) -> Any:
    from transformers import Gemma3ForConditionalGeneration

    return Gemma3ForConditionalGeneration.from_pretrained(tiny.gemma, dtype=torch.float32)


def raises(*_inputs: Any, **_arguments: Any) -> Any:
    raise NotImplementedError("not for this model")


def refuse(model: Any, is_refused: Callable[[dict[str, Any]], bool]) -> None:
    """Have the forward raise where the arguments are of that kind."""
    forward = model.forward

    def refusing(input_ids: Any = None, inputs_embeds: Any = None, labels: Any = None, **arguments: Any) -> Any:
        given = {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "labels": labels}
        if is_refused(given):
            raise ValueError("refused")
        return forward(**given, **arguments)

    model.forward = refusing


def embeddings_raise(model: Any) -> None:
    model.get_input_embeddings = raises


def embeddings_are_refused(model: Any) -> None:
    refuse(model, lambda given: given["inputs_embeds"] is not None)


def long_prompts_are_refused(model: Any) -> None:
    refuse(model, lambda given: given["labels"].shape[1] > 8)


def short_texts_are_refused(model: Any) -> None:
    refuse(model, lambda given: given["input_ids"] is not None and given["labels"].shape[1] == 8)


@pytest.mark.parametrize(
    ("spoil", "lost", "kept"),
    [
        (embeddings_raise, "(inputs_embeds)", (WEIGHT, f"{WEIGHT}(text)", "(loss)", "(loss)(text)")),
        (embeddings_are_refused, "(inputs_embeds)", (WEIGHT, f"{WEIGHT}(text)", "(loss)", "(loss)(text)")),
        (long_prompts_are_refused, WEIGHT, ("(inputs_embeds)", f"{WEIGHT}(text)", "(loss)(text)")),
        (short_texts_are_refused, f"{WEIGHT}(text)", ("(inputs_embeds)", WEIGHT, "(loss)", "(loss)(inputs_embeds)")),
    ],
)
def test_a_pass_that_raises_costs_itself_alone(
    tiny: SyntheticCheckpoint,
    probes: GradientProbes,
    plain: Fingerprint,
    spoil: Callable[[Any], None],
    lost: str,
    kept: tuple[str, ...],
) -> None:
    model = load(tiny)
    spoil(model)
    seen = fingerprint_gradients(model, probes)
    (failure,) = seen.failures
    assert (failure.section, failure.probe, failure.place.startswith(__file__)) == ("gradients", None, True)
    gradients = seen.sections["gradients"]
    assert lost in plain.sections["gradients"]
    assert lost not in gradients
    assert {place: gradients[place] for place in kept} == {place: plain.sections["gradients"][place] for place in kept}
    assert all("digest" in gradients[place] for place in kept)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_whose_backward_pass_raises_is_kept(tiny: SyntheticCheckpoint, probes: GradientProbes) -> None:
    model = load(tiny)
    model.get_parameter(WEIGHT).register_hook(raises)
    seen = fingerprint_gradients(model, replace(probes, text=None, embeds=None))
    assert [failure.error for failure in seen.failures] == ["NotImplementedError: not for this model"]
    assert set(seen.sections["gradients"]) == {"(loss)"}
    assert "digest" in seen.sections["gradients"]["(loss)"]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_every_pass_raises_the_section_is_missing_and_the_error_is_told_once(
    tiny: SyntheticCheckpoint, probes: GradientProbes
) -> None:
    model = load(tiny)
    refuse(model, lambda _given: True)
    seen = fingerprint_gradients(model, probes)
    assert (seen.sections, len(seen.failures)) == ({}, 1)


def test_an_interrupt_ends_every_pass(tiny: SyntheticCheckpoint, probes: GradientProbes) -> None:
    def interrupted(_given: dict[str, Any]) -> bool:
        raise KeyboardInterrupt

    model = load(tiny)
    refuse(model, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fingerprint_gradients(model, probes)


def test_a_model_that_names_no_embeddings_says_so(tiny: SyntheticCheckpoint, probes: GradientProbes) -> None:
    model = load(tiny)
    model.get_input_embeddings = lambda: None
    seen = fingerprint_gradients(model, replace(probes, whole=probes.embeds or probes.whole, text=None))
    assert seen.failures == ()
    assert seen.sections["gradients"]["(inputs_embeds)"] == {"gradient": "none: the model takes no inputs_embeds"}


def test_reentrant_checkpointing_gives_the_gradients_that_are_there_without_it(
    tiny: SyntheticCheckpoint, probes: GradientProbes, plain: Fingerprint
) -> None:
    """It refuses `torch.autograd.grad`: it is made of backward passes of its own."""
    model = load(tiny)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": True})
    seen = fingerprint_gradients(model, probes)
    assert seen.failures == ()
    assert seen.sections == plain.sections
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_plain_dict_and_a_tuple_are_answers(
    tiny: SyntheticCheckpoint, probes: GradientProbes, plain: Fingerprint
) -> None:
    for kind, expected in ((dict, plain.sections["gradients"]["(loss)"]), (tuple, {"gradient": "none"})):
        model = load(tiny)
        forward = model.forward

        def otherwise(kind: Any = kind, forward: Any = forward, **arguments: Any) -> Any:
            output = forward(**arguments)
            return dict(output) if kind is dict else output.to_tuple()

        model.forward = otherwise
        seen = fingerprint_gradients(model, replace(probes, text=None, embeds=None))
        assert seen.failures == ()
        assert seen.sections["gradients"]["(loss)"] == expected
        assert ("digest" in seen.sections["gradients"][WEIGHT]) == (kind is dict)
