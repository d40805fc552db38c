"""What people do to load a model, and what of it the state shows: everything that differs, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.theworld_validate.subjects import loaders
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.state import fingerprint_state
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import REFERENCE_TARGET

_NOTHING: set[str] = set()
_FROZEN = {"parameters.requires_grad", "globals.value"}  # PEFT freezes the base, and draws lora_A
_ADAPTER = {
    *_FROZEN,
    "modules.class",
    "modules.training",
    "modules.extra",
    "parameters.extra",
    "modules.attribute.ephemeral_gpu_offload",
    "modules.attribute.cast_input_dtype_enabled",
    "modules.attribute.fan_in_fan_out",
    "modules.attribute.is_target_conv_1d_layer",
}


@pytest.fixture(scope="module")
def reference(tiny: SyntheticCheckpoint) -> Fingerprint:
    return fingerprint_state(Subject(target=REFERENCE_TARGET, checkpoint=str(tiny.gemma)).load())


def state_of(loader: Callable[..., Any] | type, tiny: SyntheticCheckpoint) -> Fingerprint:
    return fingerprint_state(Subject(target=loaders.target(loader), checkpoint=str(tiny.gemma)).load())


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        (loaders.resharded, _NOTHING),
        (loaders.low_cpu, _NOTHING),
        (loaders.device_map_cpu, _NOTHING),
        (loaders.old_dtype_word, _NOTHING),
        (loaders.auto, _NOTHING),
        (loaders.auto_dtype, _NOTHING),
        (loaders.GatheredAndDrifted, _NOTHING),
        (loaders.OddKeys, _NOTHING),
        (loaders.cast_from_float32, {"config.value", "buffers.dtype"}),
        (loaders.peft_fresh, _ADAPTER),
        (loaders.peft_merged, _FROZEN),
        (loaders.peft_merged_trained, {*_FROZEN, "parameters.digest"}),
        (loaders.compiled_outside, {"modules.extra"}),
        (loaders.compiled_in_place, {"modules.compiled"}),
        (loaders.offloaded, {"modules.hooks", "modules.overrides", "parameters.device"}),
        (loaders.wrapped, {"modules.extra"}),
        (loaders.holder, {"modules.extra"}),
        (loaders.returns_pair, {"modules.extra"}),
        (loaders.unsavable, {"config.value"}),
        (loaders.merged_head, {"parameters.tied_to"}),
        (loaders.norms_in_float32, {"parameters.dtype"}),
        (loaders.tower_through_int8, {"parameters.digest"}),
    ],
)
def test_the_state_shows_what_a_loader_did(
    reference: Fingerprint, tiny: SyntheticCheckpoint, loader: Callable[..., Any], expected: set[str]
) -> None:
    seen = state_of(loader, tiny)
    assert seen.failures == ()
    found = {
        finding.code
        for name, section in reference.sections.items()
        for finding in diff_section(name, section, seen.sections[name])
    }
    assert found == expected


@pytest.mark.parametrize(
    ("loader", "kind", "prefix"),
    [
        (loaders.wrapped, "DataParallel", "module."),
        (loaders.holder, "Holder", "inner."),
        (loaders.compiled_outside, "OptimizedModule", "_orig_mod."),
        (loaders.peft_fresh, "PeftModel", "base_model.model."),
    ],
)
def test_what_lies_around_the_model_is_said(
    tiny: SyntheticCheckpoint, loader: Callable[..., Any], kind: str, prefix: str
) -> None:
    modules = fingerprint_state(loader(str(tiny.gemma)), ("modules",)).sections["modules"]
    assert modules["(wrapper)"] == {"kind": kind, "prefix": prefix}


def test_an_adapters_additions_are_listed_and_the_base_is_equal(
    reference: Fingerprint, tiny: SyntheticCheckpoint
) -> None:
    seen = state_of(loaders.peft_trained, tiny).sections["parameters"]
    for name, expected in reference.sections["parameters"].items():
        assert seen[name].get("digest") == expected.get("digest")
    added = set(seen) - set(reference.sections["parameters"])
    assert added
    assert all(".lora_A." in name or ".lora_B." in name for name in added)


def test_an_offloaded_weight_is_digested_where_it_lies(reference: Fingerprint, tiny: SyntheticCheckpoint) -> None:
    seen = state_of(loaders.offloaded, tiny).sections["parameters"]
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert seen[name]["device"] == "meta, offloaded to disk"
    assert seen[name]["digest"] == reference.sections["parameters"][name]["digest"]


def test_an_offloaded_weight_that_is_gone_says_so(tiny: SyntheticCheckpoint) -> None:
    model = loaders.offloaded(str(tiny.gemma))
    layer = model.model.language_model.layers[0].mlp.up_proj
    layer._hf_hook.weights_map.dataset.index.clear()
    seen = fingerprint_state(model, ("parameters",)).sections["parameters"]
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert seen[name]["unreadable"] == "offloaded to disk, and not readable there (KeyError)"


def test_the_text_model_alone_is_told_by_name(reference: Fingerprint, tiny: SyntheticCheckpoint) -> None:
    seen = state_of(loaders.causal_only, tiny)
    ours = reference.sections["modules"]["(model)"]["transformers_class"]
    theirs = seen.sections["modules"]["(model)"]["transformers_class"]
    assert str(ours).endswith("Gemma3ForConditionalGeneration")
    assert str(theirs).endswith("Gemma3ForCausalLM")
    assert "model.vision_tower" in reference.sections["modules"]
    assert "model.vision_tower" not in seen.sections["modules"]


def test_a_subclass_is_of_its_bases_class(tiny: SyntheticCheckpoint) -> None:
    model = loaders.OddKeys.from_pretrained(str(tiny.gemma), dtype=torch.bfloat16)
    modules = fingerprint_state(model, ("modules",)).sections["modules"]
    assert str(modules["(model)"]["transformers_class"]).endswith("Gemma3ForConditionalGeneration")
