"""Behaviour: each question sees its own fault and no other, each step stands by itself, and nothing is left behind."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from tests.theworld_validate.fingerprint import behaviour_faults as faults
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.documents.observations import EMPTY, PROBE_SECTIONS, Fingerprint
from theworld_validate.fingerprint.behaviour import (
    behaviour_steps,
    count_behaviour_steps,
    fingerprint_behaviour,
    to_tensors,
)
from theworld_validate.fingerprint.digest import digest_tensor
from theworld_validate.fingerprint.generation import generate
from theworld_validate.probes.gemma3 import Probe, build_probes

Gemma = Gemma3ForConditionalGeneration


def load(kind: type[Gemma], tiny: SyntheticCheckpoint, dtype: torch.dtype = torch.float32) -> Any:
    return kind.from_pretrained(tiny.gemma, dtype=dtype)


@pytest.fixture(scope="module")
def base(tiny: SyntheticCheckpoint) -> Any:
    return load(Gemma, tiny)


@pytest.fixture(scope="module")
def probes(base: Any) -> dict[str, Probe]:
    return {probe.name: probe for probe in build_probes(base.config)}


@pytest.fixture(scope="module")
def expected(base: Any, probes: dict[str, Probe]) -> Fingerprint:
    return fingerprint_behaviour(base, list(probes.values()))


def plain(probe: Probe) -> Probe:
    """The forward alone."""
    return replace(probe, extras=(), generation=())


def differing(expected: Fingerprint, actual: Fingerprint, probe: str) -> set[str]:
    """Where a probe's outputs and generation differ, as "section:place"."""
    found = set()
    for section in ("outputs", "generation"):
        one, other = expected.subset(section, f"{probe}/"), actual.subset(section, f"{probe}/")
        found |= {f"{section}:{at.partition('/')[2]}" for at in {**one, **other} if one.get(at) != other.get(at)}
    return found


def test_all_questions_are_answered(expected: Fingerprint) -> None:
    assert expected.failures == ()
    outputs, generation = expected.sections["outputs"], expected.sections["generation"]
    for name in (
        "text/logits",
        "text/loss",
        "text/cache[7].values",
        "text/loss_by_count",
        "text/embeds/logits",
        "image/embeds/logits",
        "text/arguments/hidden_states[8]",
        "text/arguments/tuple[0]",
        "text/arguments/positions.logits",
        "cached_decode/untraced/decoded_logits[7]",
        "left_padded_batch/row[2]/logits",
        "right_padded_batch/logits",
        "right_padded_batch/row[0]/logits",
        "cached_decode/decoded_logits[7]",
    ):
        assert "digest" in outputs[name]
    for name in ("text/greedy", "text/greedy_logits[7]", "text/sampled", "text/static", "text/static_logits[7]"):
        assert "digest" in generation[name]
    assert "digest" in generation["image/beams"]
    assert "digest" in generation["image/beams_scores"]
    assert "value" in generation["text/rng_state_cpu"]
    assert not any(place.startswith(("right_padded", "cached_decode")) for place in generation)
    assert not any(place.endswith("non_finite") for place in outputs)
    assert expected.num_bytes["trace"] > expected.num_bytes["outputs"] > 0


def test_a_second_run_gives_the_same(base: Any, probes: dict[str, Probe], expected: Fingerprint) -> None:
    asked = [probes["text"], probes["cached_decode"]]
    again = fingerprint_behaviour(base, asked)
    for section in PROBE_SECTIONS:
        seen = {at: v for at, v in expected.sections[section].items() if at.startswith(("text/", "cached_decode/"))}
        assert again.sections[section] == seen


def test_the_answers_are_the_models_own(base: Any, probes: dict[str, Probe], expected: Fingerprint) -> None:
    """Against the model called by hand."""
    outputs = expected.sections["outputs"]
    inputs = to_tensors(probes["left_padded_batch"], base)
    row = {name: tensor[2:3, inputs["attention_mask"][2] == 1] for name, tensor in inputs.items() if tensor.ndim == 2}
    with torch.no_grad():
        alone = base(**row, use_cache=False).logits
        text = to_tensors(probes["text"], base)
        half = base(**text, labels=text["input_ids"]).loss / 2
        made = base.generate(**text, max_new_tokens=8, min_new_tokens=8, do_sample=False, cache_implementation="static")
    assert outputs["left_padded_batch/row[2]/logits"]["digest"] == digest_tensor(alone)
    assert outputs["text/loss_by_count"]["digest"] == digest_tensor(half)
    assert expected.sections["generation"]["text/static"]["digest"] == digest_tensor(made)


def test_embeddings_give_the_same_logits_as_ids(expected: Fingerprint) -> None:
    outputs = expected.sections["outputs"]
    for name in ("text", "image"):
        assert outputs[f"{name}/embeds/logits"] == outputs[f"{name}/logits"]


FAULTS: dict[type[Gemma], tuple[str, set[str]]] = {
    faults.CountIgnored: ("text", {"outputs:loss_by_count"}),
    faults.EmbedsScaledTwice: ("text", {"outputs:embeds/logits"}),
    faults.StaticCacheShort: ("text", {f"generation:static_logits[{i}]" for i in range(8)}),
    faults.BeamsMixed: ("image", {"generation:beams", "generation:beams_scores"}),
}


@pytest.mark.parametrize("kind", FAULTS, ids=[kind.__name__ for kind in FAULTS])
def test_a_fault_is_seen_by_its_question_alone(
    kind: type[Gemma], tiny: SyntheticCheckpoint, probes: dict[str, Probe], expected: Fingerprint
) -> None:
    name, places = FAULTS[kind]
    seen = fingerprint_behaviour(load(kind, tiny), [probes[name]])
    assert seen.failures == ()
    # Whether a token is another one is a matter of the weights; the logits behind it are.
    assert differing(expected, seen, name) - {"generation:static"} == places
    assert seen.sections["trace"] == expected.subset("trace", f"{name}/")


def test_padding_on_the_right_is_asked_about(
    tiny: SyntheticCheckpoint, probes: dict[str, Probe], expected: Fingerprint
) -> None:
    model = load(faults.RightPaddingSeen, tiny)
    asked = [replace(probes[name], generation=()) for name in ("left_padded_batch", "right_padded_batch")]
    seen = fingerprint_behaviour(model, asked)
    assert "outputs:logits" in differing(expected, seen, "right_padded_batch")
    left = expected.subset("outputs", "left_padded_batch/")
    assert seen.subset("outputs", "left_padded_batch/") == left


def test_rows_alone_are_asked_about(tiny: SyntheticCheckpoint, probes: dict[str, Probe], expected: Fingerprint) -> None:
    probe = replace(probes["left_padded_batch"], generation=())
    seen = fingerprint_behaviour(load(faults.SingleRowsElsewhere, tiny), [probe])
    found = {place for place in differing(expected, seen, probe.name) if place.startswith("outputs:")}
    assert found == {f"outputs:row[{i}]/logits" for i in range(3)}


def test_a_step_that_raises_costs_itself(
    tiny: SyntheticCheckpoint, probes: dict[str, Probe], expected: Fingerprint
) -> None:
    seen = fingerprint_behaviour(load(faults.LossRaises, tiny), [probes["text"]])
    assert [(f.section, f.probe) for f in seen.failures] == [
        ("trace", "text"),
        ("outputs", "text"),
        ("outputs", "text"),
    ]
    (failure,) = set(seen.failures_of("trace"))
    assert failure.error == "KeyError: 'no labels, please'"
    assert failure.place.rpartition(":")[0] == faults.__file__
    assert failure.code == 'raise KeyError("no labels, please")'
    assert {at.split("/")[1] for at in seen.sections["outputs"]} == {"embeds", "arguments"}
    assert seen.sections["generation"] == expected.subset("generation", "text/")


def test_an_interrupt_is_no_failure(base: Any, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fingerprint_behaviour(base, [plain(probes["text"])])
    assert not any(module._forward_hooks for module in base.modules())


def test_steps_are_named_and_counted(base: Any, probes: dict[str, Probe]) -> None:
    asked = [probes["text"], probes["cached_decode"]]
    steps = list(behaviour_steps(base, asked))
    assert [name for name, _ in steps] == [
        "text",
        "text, loss_by_count",
        "text, embeds",
        "text, arguments",
        "text, greedy",
        "text, sampled",
        "text, static",
        "cached_decode",
        "cached_decode, untraced",
    ]
    assert len(steps) == count_behaviour_steps(asked)
    merged = EMPTY
    for _, part in steps:
        merged = merged.merge(part)
    assert merged == fingerprint_behaviour(base, asked)


def test_a_probe_without_generation_says_so(base: Any, probes: dict[str, Probe]) -> None:
    seen = fingerprint_behaviour(base, [plain(probes["text"])])
    assert set(seen.sections) == set(PROBE_SECTIONS)
    assert seen.sections["generation"] == {}


def test_nothing_is_left_on_the_model(tiny: SyntheticCheckpoint, probes: dict[str, Probe]) -> None:
    model = load(Gemma, tiny)
    model._previous_max_cache_length = 1_000  # by a generate of its loader's

    def state() -> object:
        return sorted(vars(model)), model.generation_config.to_dict(), model.config.to_dict(), model.training

    before = state()
    fingerprint_behaviour(model, [probes["text"], probes["image"]])
    assert state() == before
    assert model._previous_max_cache_length == 1_000
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nothing_is_left_behind_a_compiled_wrapper(base: Any, probes: dict[str, Probe]) -> None:
    """`generate` of what torch.compile returned is the model's own."""
    compiled = torch.compile(base, backend="eager")
    before = sorted(vars(base))
    assert "static" in generate(compiled, probes["text"], "static", seed=0).answers
    assert sorted(vars(base)) == before


def test_nothing_compiles(base: Any, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("something is compiled")

    monkeypatch.setattr(torch, "compile", refuse)
    # As on CUDA, where generate compiles for a static cache.
    monkeypatch.setattr(base.generation_config, "compile_config", None)
    original = type(base)._valid_auto_compile_criteria
    asked = []

    def criteria(model: Any, model_kwargs: Any, generation_config: Any) -> bool:
        asked.append((generation_config.cache_implementation, generation_config.disable_compile))
        return original(model, model_kwargs, generation_config)

    monkeypatch.setattr(type(base), "_valid_auto_compile_criteria", criteria)
    seen = fingerprint_behaviour(base, [replace(probes["text"], extras=(), generation=("static",))])
    assert seen.failures == ()
    assert ("static", True) in asked


@pytest.fixture
def overflowing(tiny: SyntheticCheckpoint) -> Any:
    """Weights that float16 cannot multiply (transformers #39972)."""
    model = load(Gemma, tiny, torch.float16)
    layer = model.model.language_model.layers[3]
    with torch.no_grad():
        layer.pre_feedforward_layernorm.weight.fill_(100)
        layer.mlp.down_proj.weight.fill_(6e4)
    return model


@pytest.mark.parametrize("name", ["text", "cached_decode"])
def test_outputs_that_are_not_finite_name_the_first_module(
    overflowing: Any, probes: dict[str, Probe], name: str
) -> None:
    seen = fingerprint_behaviour(overflowing, [plain(probes[name])])
    assert seen.failures == ()
    found = seen.sections["outputs"][f"{name}/non_finite"]
    assert found["first"] == "model.language_model.layers.3.mlp.down_proj"
    assert "float16[1, " in str(found["tensor"])
    assert int(found["non_finite"] or 0) > 0
    assert int(found["places"] or 0) > 10


def test_sampling_from_what_is_no_number_is_a_failure(overflowing: Any, probes: dict[str, Probe]) -> None:
    probe = replace(probes["text"], extras=(), generation=("greedy", "sampled"))
    seen = fingerprint_behaviour(overflowing, [probe])
    (failure,) = seen.failures
    assert failure.section == "generation"
    assert "probability tensor contains" in failure.error
    assert "text/greedy" in seen.sections["generation"]


@pytest.mark.parametrize("name", ["text", "cached_decode"])
def test_a_decode_step_that_is_not_finite_is_seen(
    tiny: SyntheticCheckpoint, probes: dict[str, Probe], name: str
) -> None:
    """In "text" the forward is finite, and generating is not."""
    probe = replace(probes[name], extras=(), generation=("greedy",) if name == "text" else ())
    seen = fingerprint_behaviour(load(faults.DecodesNothing, tiny), [probe])
    found = seen.sections["outputs"][f"{name}/non_finite"]
    assert str(found["first"]).startswith("(model)")
    assert ".logits" in str(found["first"])


def test_a_tuple_without_loss_and_cache_is_observed(tiny: SyntheticCheckpoint, probes: dict[str, Probe]) -> None:
    model = load(faults.ReturnsTuple, tiny)
    seen = fingerprint_behaviour(model, [replace(probes["cached_decode"], extras=("loss_by_count", "embeds"))])
    assert seen.failures == ()
    outputs = seen.subset("outputs", "cached_decode/")
    assert outputs["cached_decode/logits"] == {"tensor": "none"}
    assert outputs["cached_decode/cache"] == {"tensor": "none"}
    assert outputs["cached_decode/output[0]"]["tensor"] == "float32[]"
    assert outputs["cached_decode/output[1]"]["tensor"] == "float32[1, 41, 1088]"
    assert outputs["cached_decode/embeds/output[0]"]["tensor"] == "float32[1, 49, 1088]"


class Bare(nn.Module):
    """A module that is no `PreTrainedModel`: no device, no config, no generate, and its own arguments."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, labels: Any = None, use_cache: Any = None
    ) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


def test_a_plain_module_is_observed(base: Any, probes: dict[str, Probe], expected: Fingerprint) -> None:
    seen = fingerprint_behaviour(Bare(base), [probes["text"]])
    assert [f.error.partition(":")[0] for f in seen.failures] == ["TypeError"]  # it takes no num_items_in_batch
    outputs = seen.sections["outputs"]
    assert outputs["text/output"] == expected.sections["outputs"]["text/logits"]
    assert outputs["text/embeds/logits"] == {"tensor": "none: the model takes no inputs_embeds"}
    assert seen.sections["generation"]["text/greedy"] == {"tensor": "none: the model has no generate"}
    assert "text/inner.lm_head" in seen.sections["trace"]


def test_an_offloaded_model_gives_the_same(
    tiny: SyntheticCheckpoint, tmp_path: Path, probes: dict[str, Probe], expected: Fingerprint
) -> None:
    places = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu"}
    places |= {"model.language_model": "disk", "lm_head": "disk"}
    model = Gemma.from_pretrained(tiny.gemma, dtype=torch.float32, device_map=places, offload_folder=str(tmp_path))
    seen = fingerprint_behaviour(model, [replace(probes["image"], generation=())])
    assert seen.failures == ()
    for section in ("trace", "outputs"):
        assert seen.sections[section] == expected.subset(section, "image/")


class CompilesItsForward(Gemma):
    """No module of it is compiled, and its forward is."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        compiled = self.__dict__.setdefault("_fast", torch.compile(super().forward, backend="eager"))
        return compiled(*args, **kwargs)


def make_shallow(base: Any) -> Any:
    """A model of two layers, which is compiled in a few seconds."""
    config = deepcopy(base.config)
    config.text_config.num_hidden_layers, config.text_config.layer_types = 2, ["sliding_attention", "full_attention"]
    torch.manual_seed(0)
    return Gemma(config).eval()


def compile_outside(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def compile_in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def compile_one_module(model: Any) -> Any:
    layer = model.model.language_model.layers[1]
    layer.mlp = torch.compile(layer.mlp, backend="eager")
    return model


def compile_a_function(model: Any) -> Any:
    model.__class__ = CompilesItsForward
    return model


@pytest.mark.filterwarnings("ignore")  # Dynamo's own
@pytest.mark.parametrize(
    ("compiled", "note"),
    [
        (compile_outside, set()),
        (compile_in_place, set()),
        (compile_one_module, set()),
        (compile_a_function, {"text/(compiled)"}),  # what the section "modules" does not show is said here
    ],
)
def test_a_compiled_model_loses_nothing(
    compiled: Callable[[Any], Any], note: set[str], base: Any, probes: dict[str, Probe]
) -> None:
    probe = plain(probes["text"])
    expected = fingerprint_behaviour(make_shallow(base), [probe])
    torch._dynamo.reset()
    seen = fingerprint_behaviour(compiled(make_shallow(base)), [probe])
    assert seen.failures == ()
    trace = {at.replace("._orig_mod", ""): observation for at, observation in seen.sections["trace"].items()}
    assert set(trace) - set(expected.sections["trace"]) == note
    assert {at: observation for at, observation in trace.items() if at not in note} == expected.sections["trace"]
    assert set(seen.sections["outputs"]) == set(expected.sections["outputs"])
    assert seen.sections["outputs"]["text/logits"]["tensor"] == expected.sections["outputs"]["text/logits"]["tensor"]
