"""State: what the layers hold, and that each kind of change shows in its own layer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from theworld_validate.compare.differences import diff_layer
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.state import fingerprint_state


def codes(before: Fingerprint, after: Fingerprint) -> set[str]:
    return {f.code for layer in before.layers for f in diff_layer(layer, before.layers[layer], after.layers[layer])}


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
    "minus zero": (
        lambda m: m.lm_head.weight.data.zero_().neg_(),
        {"parameters.digest"},
    ),
}


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "replaced module"])
def test_a_change_shows_in_its_layer(gemma: Gemma3ForConditionalGeneration, change: str) -> None:
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
    assert set(seen.layers["parameters"]) == {n for n, _ in gemma.named_parameters(remove_duplicate=False)}
    assert set(seen.layers["buffers"]) == {n for n, _ in gemma.named_buffers()}
    assert seen.layers["parameters"]["lm_head.weight"]["tied_to"] == "model.language_model.embed_tokens.weight"
    assert seen.num_bytes["parameters"] == sum(p.numel() * 4 for p in gemma.parameters())
