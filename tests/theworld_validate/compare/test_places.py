"""What a location says, read back from how fingerprints write it."""

import pytest

from theworld_validate.compare.places import component_of, group_of, is_above, place_of, without_wrappers


@pytest.mark.parametrize(
    ("location", "module", "port", "call"),
    [
        ("text/model.layers.0.mlp", "model.layers.0.mlp", None, 1),
        ("text/model.layers.0.self_attn(attention_mask)#3", "model.layers.0.self_attn", "attention_mask", 3),
        ("text/model.rotary_emb(full_attention)[0]", "model.rotary_emb", "full_attention", 1),
        ("text/model.layers.0#2[1]", "model.layers.0", None, 2),
        ("text/(model).logits", "", None, 1),
        ("text/(compiled)", "", "compiled", 1),
        ("text/", "", None, 1),
    ],
)
def test_a_call_in_a_trace(location: str, module: str, port: str | None, call: int) -> None:
    place = place_of("trace", location)
    assert (place.probe, place.module, place.port, place.call) == ("text", module, port, call)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("text/logits", "logits"),
        ("text/loss", "logits"),
        ("text/loss_by_count", "loss_by_count"),
        ("text/row[2]/logits", "row"),
        ("text/embeds/logits", "embeds"),
        ("text/decoded_logits[3]", "decoded"),
        ("text/cache[1].keys", "cache"),
        ("text/greedy_logits[0]", "greedy"),
        ("text/static", "static"),
        ("text/beams_scores", "beams"),
        ("text/rng_state_cpu", "rng_state"),
    ],
)
def test_an_answers_kind(location: str, kind: str) -> None:
    assert place_of("outputs", location).kind == kind


def test_state_and_round_trip() -> None:
    weight = place_of("parameters", "model.layers.3.mlp.weight")
    assert (weight.module, weight.name, weight.component) == ("model.layers.3.mlp", "weight", "model.layers")
    assert place_of("modules", "(model)").module == ""
    assert place_of("modules", "(wrapper)").kind == "wrapper"
    base = place_of("round_trip", "base/parameters/lm_head.weight")
    assert (base.part, base.module, base.name) == ("base", "lm_head", "weight")
    assert place_of("round_trip", "written/a.b.weight").part == "written"
    assert place_of("config", "generation_config.top_k").part == "generation_config"


def test_parts_of_a_model() -> None:
    assert component_of("model.vision_tower.encoder.layers.2") == "model.vision_tower"
    assert component_of("transformer.3.attention") == "transformer"
    assert component_of("") == ""
    assert group_of("parameters", "model.vision_tower.a.weight") != group_of(
        "parameters", "model.language_model.a.weight"
    )
    assert group_of("outputs", "text/logits") != group_of("outputs", "text/cache[0].keys")
    assert group_of("outputs", "text/logits") != group_of("outputs", "image/logits")
    assert group_of("globals", "grad_enabled") != group_of("globals", "rng_state_cpu")


def test_above_and_wrappers() -> None:
    assert is_above("", "a.b")
    assert is_above("a", "a.b")
    assert is_above("a.b", "a.b")
    assert not is_above("a.b", "a.bc")
    assert without_wrappers("module.a._orig_mod.q_proj.base_layer.weight") == "a.q_proj.weight"
