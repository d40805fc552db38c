"""State: what the sections hold, and that each kind of change shows in its own section."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.state import fingerprint_state


def codes(before: Fingerprint, after: Fingerprint) -> set[str]:
    sections = before.sections
    return {f.code for name in sections for f in diff_section(name, sections[name], after.sections.get(name, {}))}


def flip_persistence(model: Any) -> None:
    rotary = model.model.language_model.rotary_emb
    rotary._non_persistent_buffers_set.discard("full_attention_inv_freq")


def buffer_to_parameter(model: Any) -> None:
    embedding = model.model.language_model.embed_tokens
    scale = embedding._buffers.pop("embed_scale")
    embedding.embed_scale = nn.Parameter(scale, requires_grad=False)


CHANGES: dict[str, tuple[Callable[[Any], object], set[str]]] = {
    "train": (lambda m: m.train(), {"modules.training"}),
    "one module in train": (lambda m: m.model.language_model.layers[1].mlp.train(), {"modules.training"}),
    "cast": (
        lambda m: m.to(torch.bfloat16),
        {"parameters.dtype", "buffers.dtype", "config.value"},
    ),
    "frozen": (lambda m: m.requires_grad_(False), {"parameters.requires_grad"}),
    "persistence": (flip_persistence, {"buffers.persistent"}),
    "buffer to parameter": (buffer_to_parameter, {"buffers.missing", "parameters.extra"}),
    "untied": (
        lambda m: setattr(m.lm_head, "weight", nn.Parameter(m.lm_head.weight.detach().clone())),
        {"parameters.tied_to"},
    ),
    "hook": (lambda m: m.lm_head.register_forward_pre_hook(lambda *_: None), {"modules.hooks"}),
    "attention": (
        lambda m: m.set_attn_implementation({"text_config": "eager"}),
        {"modules.attn_implementation"},
    ),
    "generation config": (lambda m: setattr(m.generation_config, "top_k", 5), {"config.value"}),
    "loss": (lambda m: setattr(m, "loss_type", "ForMaskedLM"), {"modules.loss_function"}),
    "replaced module": (
        lambda m: setattr(m.model.language_model, "norm", nn.Identity()),
        {"modules.class", "modules.attn_implementation", "parameters.missing"},
    ),
    "compiled": (lambda m: m.compile(backend="eager"), {"modules.compiled"}),
    "minus zero": (
        lambda m: m.lm_head.weight.data.zero_().neg_(),
        {"parameters.digest"},
    ),
}


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "replaced module"])
def test_a_change_shows_in_its_section(gemma: Gemma3ForConditionalGeneration, change: str) -> None:
    if change == "minus zero":
        gemma.lm_head.weight.data.zero_()
    before = fingerprint_state(gemma)
    assert codes(before, fingerprint_state(gemma)) == set()
    apply, expected = CHANGES[change]
    apply(gemma)
    found = codes(before, fingerprint_state(gemma))
    assert expected - {"config.value"} <= found <= expected


def test_a_replaced_module_shows(gemma: Gemma3ForConditionalGeneration) -> None:
    before = fingerprint_state(gemma)
    gemma.model.language_model.norm = nn.Identity()
    assert {"modules.class", "parameters.missing"} <= codes(before, fingerprint_state(gemma))


@pytest.mark.parametrize(
    ("change", "restore"),
    [
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (
            lambda: torch.set_float32_matmul_precision("high"),
            lambda: torch.set_float32_matmul_precision("highest"),
        ),
        (lambda: torch.rand(1), lambda: None),
        (
            lambda: torch.use_deterministic_algorithms(True),
            lambda: torch.use_deterministic_algorithms(False),
        ),
    ],
    ids=["grad", "dtype", "precision", "rng", "deterministic"],
)
def test_global_changes_show(change: Callable[[], object], restore: Callable[[], object]) -> None:
    model = nn.Linear(2, 2)
    before = fingerprint_state(model)
    try:
        change()
        assert codes(before, fingerprint_state(model)) == {"globals.value"}
    finally:
        restore()


def test_every_tensor_is_there_with_its_bytes(gemma: Gemma3ForConditionalGeneration) -> None:
    seen = fingerprint_state(gemma)
    assert set(seen.sections["parameters"]) == {n for n, _ in gemma.named_parameters(remove_duplicate=False)}
    assert set(seen.sections["buffers"]) == {n for n, _ in gemma.named_buffers()}
    assert seen.sections["parameters"]["lm_head.weight"]["tied_to"] == "model.language_model.embed_tokens.weight"
    assert seen.num_bytes["parameters"] == sum(p.numel() * 4 for p in gemma.parameters())


def test_where_a_model_lies_is_no_property_of_it(gemma: Any) -> None:
    before = fingerprint_state(gemma)
    gemma.name_or_path = gemma.config._name_or_path = gemma.config.text_config._name_or_path = "elsewhere"
    gemma.model.cache_folder = "/tmp/elsewhere"
    assert codes(before, fingerprint_state(gemma)) == set()
    gemma.model.marker = "relative/text"
    assert codes(before, fingerprint_state(gemma)) == {"modules.attribute.marker"}


def test_a_section_that_raises_costs_itself_alone(gemma: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, object]:
        raise OddError("no config today")

    monkeypatch.setattr(gemma.config, "to_dict", fail)
    seen = fingerprint_state(gemma)
    assert set(seen.sections) == {"modules", "parameters", "buffers", "globals"}
    (failure,) = seen.failures
    assert (failure.section, failure.probe) == ("config", None)
    assert failure.error == "OddError: no config today"
    assert failure.place.startswith(__file__)


class OddError(BaseException):
    pass


def test_values_that_json_has_not_are_written_all_the_same(gemma: Any) -> None:
    numbers = list(range(9000))
    gemma.config.odd = {"nan": float("nan"), "huge": 10**30, "half": "\ud800", 5: object(), "long": numbers}
    gemma.model.infinite = float("inf")
    seen = fingerprint_state(gemma)
    text = json.dumps(seen.sections, allow_nan=False)
    assert json.loads(text.encode().decode())
    config = {key: value["value"] for key, value in seen.sections["config"].items() if key.startswith("config.odd")}
    assert config["config.odd.nan"] == "nan"
    assert config["config.odd.huge"] == hex(10**30)
    assert config["config.odd.half"] == "\\ud800"
    assert config["config.odd.5"] == "<object object at 0x...>"
    assert "xxh3" in str(config["config.odd.long"])
    assert seen.sections["modules"]["model"]["attribute.infinite"] == "inf"
    numbers[-1] = -1
    assert codes(seen, fingerprint_state(gemma)) == {"config.value"}


def test_a_weight_without_bits_says_so(gemma: Any) -> None:
    gemma.model.language_model.norm.to("meta")
    seen = fingerprint_state(gemma).sections["parameters"]["model.language_model.norm.weight"]
    assert seen["unreadable"] == "a tensor on the meta device has no bits to digest"
    assert "digest" not in seen


def test_a_quantised_weight_says_its_class_and_shows_a_change(gemma: Any) -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    weight = gemma.model.language_model.norm.weight.detach()
    gemma.model.language_model.norm.weight = nn.Parameter(TwoTensor(weight.clone(), weight.clone()))
    before = fingerprint_state(gemma)
    seen = before.sections["parameters"]["model.language_model.norm.weight"]
    assert seen["subclass"] == "TwoTensor"
    changed = weight.clone()
    changed[3] += 1
    gemma.model.language_model.norm.weight = nn.Parameter(TwoTensor(weight.clone(), changed))
    assert codes(before, fingerprint_state(gemma)) == {"parameters.digest"}
