"""Faults of calls that a forward of the probe does not make: each is caught by its section, and benign ones are not."""

import copy
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from transformers import Gemma3ForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.gemma3.modeling_gemma3 import Gemma3CausalLMOutputWithPast

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.compare.causes import classify
from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.explain import Evidence, contradictions, explain, rank_roots
from theworld_validate.compare.judgement import Verdict, judge
from theworld_validate.documents.observations import EMPTY, PROBE_SECTIONS, STATE_SECTIONS, Fingerprint
from theworld_validate.faults.base import become
from theworld_validate.faults.calls import _answer_otherwise
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.fingerprint.take import observe
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.probes.probe import Probe, gradient_probes
from theworld_validate.results import Finding

CALLS = [name for name, fault in CATALOGUE.items() if fault.inject.__module__.endswith("faults.calls")]
_TOGETHER = {"outputs": PROBE_SECTIONS, "gradients": ("gradients",), "config": STATE_SECTIONS}
Sees = Callable[[Any, str], Fingerprint]


@pytest.fixture(scope="module")
def probes(tiny: SyntheticCheckpoint) -> list[Probe]:
    from theworld_validate.subjects.checkpoints import read_config

    built = {probe.name: probe for probe in build_probes(read_config(str(tiny.gemma)))}
    text = replace(built["text"], extras=("embeds", "arguments"), generation=())
    return [text, replace(built["image"], extras=(), generation=())]


@pytest.fixture(scope="module")
def see(probes: list[Probe]) -> Sees:
    """Observe a model's section, with what is observed in one go with it."""

    def take(model: Any, section: str) -> Fingerprint:
        seen = EMPTY
        asked = probes[:1] if section == "outputs" else probes
        for _, part in observe(model, asked, only=_TOGETHER.get(section, STATE_SECTIONS), round_trip=False):
            seen = seen.merge(part)
        assert seen.failures == ()
        return seen

    return take


@pytest.fixture(scope="module")
def reference(tiny: SyntheticCheckpoint, see: Sees) -> Callable[[str], Fingerprint]:
    @functools.cache
    def of(section: str) -> Fingerprint:
        return see(load(tiny), section)

    return of


def load(tiny: SyntheticCheckpoint) -> Any:
    torch.manual_seed(0)
    return Gemma3ForConditionalGeneration.from_pretrained(tiny.gemma, dtype=torch.float32)


def differences(expected: Fingerprint, actual: Fingerprint) -> tuple[Finding, ...]:
    def found() -> Iterable[Finding]:
        for name, section in expected.sections.items():
            yield from diff_section(name, section, actual.sections[name])

    return explain([finding for finding in found() if finding.section != "globals"], Evidence())


def test_there_are_nine() -> None:
    assert len(CALLS) == 9


@pytest.mark.parametrize("name", CALLS)
def test_it_is_caught_placed_and_explained(
    name: str, tiny: SyntheticCheckpoint, see: Sees, reference: Callable[[str], Fingerprint]
) -> None:
    fault, model = CATALOGUE[name], load(tiny)
    fault.inject(model)
    findings = differences(reference(fault.section), see(model, fault.section))
    root = rank_roots(findings)[0]
    assert (root.section, classify(root) in fault.causes) == (fault.section, True)
    assert re.search(fault.location, root.location)
    assert contradictions(findings) == ()


@dataclass
class OwnOutput(Gemma3CausalLMOutputWithPast):
    """What a model may add to the base class's output."""

    note: str | None = None


def own_output(model: Any) -> None:
    original = type(model)

    class Own(original):
        @functools.wraps(original.forward)
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            output = super().forward(*inputs, **kwargs)
            return output if isinstance(output, tuple) else OwnOutput(**output)

    become(model, Own)


def other_output(model: Any, *, without: str = "", note: str | None = None) -> None:
    """Have the forward give another class of output: by default with equal fields, else less one, or one more."""

    def give(_model: Any, _arguments: dict[str, Any], output: Any) -> Any:
        if isinstance(output, tuple):
            return output
        fields = {name: value for name, value in output.items() if name != without}
        return OwnOutput(**fields, note=note) if note else CausalLMOutputWithPast(**fields)

    _answer_otherwise(model, give)


def severities(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(f"{finding.field}", finding.severity) for finding in findings}


def test_another_class_of_output_is_shown_and_fails_only_where_its_fields_are_others(
    tiny: SyntheticCheckpoint, see: Sees, reference: Callable[[str], Fingerprint], probes: list[Probe]
) -> None:
    expected = reference("outputs")
    equal, less, more = load(tiny), load(tiny), load(tiny)
    other_output(equal)
    seen = see(equal, "outputs")
    assert severities(differences(expected, seen)) == {("output_class", "warning")}
    assert judge(expected, seen).verdict is Verdict.IDENTICAL
    other_output(less, without="loss")
    assert ("output_fields", "error") in severities(differences(expected, see(less, "outputs")))
    other_output(more, note="mine")  # a subclass of the base's
    assert differences(expected, see(more, "outputs")) == ()


def equal_config_apart(model: Any) -> None:
    model.model.language_model.config = copy.deepcopy(model.model.language_model.config)
    model.config = copy.deepcopy(model.config)


@pytest.mark.parametrize(("change", "section"), [(own_output, "outputs"), (equal_config_apart, "config")])
def test_what_is_right_is_no_difference(
    change: Callable[[Any], None],
    section: str,
    tiny: SyntheticCheckpoint,
    see: Sees,
    reference: Callable[[str], Fingerprint],
) -> None:
    model = load(tiny)
    change(model)
    assert differences(reference(section), see(model, section)) == ()


def test_a_bare_call_is_the_models_own(
    tiny: SyntheticCheckpoint, probes: list[Probe], reference: Callable[[str], Fingerprint]
) -> None:
    """Against calls by hand."""
    from theworld_validate.fingerprint.digest import digest_tensor

    model, ids = load(tiny), torch.from_numpy(probes[0].inputs["input_ids"])
    outputs = reference("outputs").sections["outputs"]
    with torch.no_grad():
        bare, last = model(ids), model(**text_of(probes), logits_to_keep=2)
    assert outputs["text/arguments/bare.logits"]["digest"] == digest_tensor(bare.logits)
    assert outputs["text/arguments/bare.cache[7].keys"]["digest"] == digest_tensor(bare.past_key_values.layers[7].keys)
    assert outputs["text/arguments/bare.cache_type"] == {"tensor": "DynamicCache"}
    assert outputs["text/output_type"] == {
        "tensor": "ModelOutput",
        "output_class": "Gemma3CausalLMOutputWithPast",
        "output_fields": "logits, loss, past_key_values",
    }
    assert outputs["text/arguments/tuple.output_type"] == {"tensor": "tuple"}
    assert outputs["text/arguments/last_logits.logits"]["digest"] == digest_tensor(last.logits)
    assert str(outputs["text/arguments/chosen_logits.logits"]["tensor"]).startswith("float32[1, 2, ")


def text_of(probes: list[Probe]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in probes[0].inputs.items()}


def test_losses_and_gradients_are_the_models_own(
    tiny: SyntheticCheckpoint, probes: list[Probe], reference: Callable[[str], Fingerprint]
) -> None:
    from theworld_validate.fingerprint.alignment import align_weights
    from theworld_validate.fingerprint.digest import digest_tensor

    model, gradients = load(tiny), reference("gradients").sections["gradients"]
    align_weights(model)
    assert probes[0].labels is not None
    inputs, labels = text_of(probes), torch.from_numpy(probes[0].labels)
    model.train()
    loss = model(**inputs, labels=labels, use_cache=False).loss
    loss.backward()
    assert gradients["(loss)(text)"]["digest"] == digest_tensor(loss.detach())
    name = "model.language_model.layers.3.mlp.up_proj.weight"
    assert gradients[f"{name}(text)"]["digest"] == digest_tensor(model.get_parameter(name).grad)
    assert gradients["model.vision_tower.embeddings.patch_embedding.weight(text)"] == {"gradient": "none"}
    assert "digest" in gradients["model.vision_tower.embeddings.patch_embedding.weight"]
    assert gradients["(inputs_embeds)"]["gradient"] == "float32[1, 256, 80]"
    assert list(gradients)[-1] == "(loss)(text)"


def test_which_prompts_gradients_are_taken_on(probes: list[Probe]) -> None:
    chosen = gradient_probes(probes)
    assert chosen is not None
    assert (chosen.whole.name, chosen.text, chosen.embeds) == ("image", probes[0], probes[0])
    assert gradient_probes(probes[:1]) is None
    alone = gradient_probes([replace(probes[0], gradients=True)])
    assert alone is not None
    assert (alone.whole.name, alone.text, alone.embeds is not None) == ("text", None, True)


def test_a_refused_call_is_an_answer(tiny: SyntheticCheckpoint, probes: list[Probe]) -> None:
    from theworld_validate.fingerprint.arguments import ask_arguments

    class Refusing(Gemma3ForConditionalGeneration):
        @functools.wraps(Gemma3ForConditionalGeneration.forward)
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            if kwargs.get("attention_mask") is None:
                raise OSError("no mask")
            return super().forward(*inputs, **kwargs)

    model = load(tiny)
    become(model, Refusing)
    assert ask_arguments(model, probes[0], seed=0)["arguments/bare"] == "none: raises OSError"
