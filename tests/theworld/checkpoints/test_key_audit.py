"""The key audit: every way in which public checkpoints lost keys is named, from headers alone; right ones pass."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Qwen2MoeConfig, Qwen2MoeForCausalLM

from tests.conftest import load_world
from theworld import TheWorld, TheWorldConfig
from theworld.checkpoints.key_audit import KeyAudit, audit_checkpoint, audit_model, read_headers
from theworld.checkpoints.key_problems import key_problems
from theworld.checkpoints.key_renaming import build_on_meta
from theworld.checkpoints.key_spelling import surplus_words
from theworld.checkpoints.weight_files import resolve_weight_files
from theworld.geometries import geometry
from theworld.synthetic import SyntheticCheckpoint

INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00004.safetensors"
NORM = "language_model.model.layers.3.input_layernorm.weight"
EMBEDDING = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"
State = dict[str, torch.Tensor]


def rewrite(folder: Path, edit: Callable[[State], State], *, with_index: bool = True) -> None:
    """Edit each shard's tensors; the index follows."""
    weight_map: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        state = edit(load_file(path))
        save_file(state, path, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(state, path.name))
    if with_index and (folder / INDEX).is_file():
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def each(key: Callable[[str], str] = lambda key: key, value: Any = None) -> Callable[[State], State]:
    return lambda state: {key(k): (v if value is None else value(k, v)) for k, v in state.items()}


def without(*words: str) -> Callable[[State], State]:
    return lambda state: {k: v for k, v in state.items() if not any(word in k for word in words)}


def where(word: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], State]:
    return each(value=lambda key, value: change(value) if word in key else value)


def move_index_key(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][NORM + "x"] = index["weight_map"].pop(NORM)
    (folder / INDEX).write_text(json.dumps(index))


def audit(folder: Path, model_class: Any = Gemma3ForConditionalGeneration, config: Any = None) -> KeyAudit:
    config = config or Gemma3Config.from_pretrained(folder)
    return audit_checkpoint(resolve_weight_files(folder), model_class, config)


DAMAGES: dict[str, tuple[Callable[[State], State], str]] = {
    "orig_mod": (
        each(lambda k: f"_orig_mod.{k}"),
        "none of the 145 keys in its files belong to the model (all hold '_orig_mod.', which the model's do not)",
    ),
    "orig_mod inside": (
        each(lambda k: k.replace("layers.", "layers._orig_mod.").replace("model.", "model._orig_mod.")),
        "without '_orig_mod.' they would be the model's",
    ),
    "module": (
        each(lambda k: f"module.{k}"),
        "none of the 145 keys in its files belong to the model (all hold 'module.'",
    ),
    "two prefixes": (
        each(lambda k: f"module._orig_mod.{k}"),
        "none of the 145 keys in its files belong to the model (all hold 'module._orig_mod.'",
    ),
    "nested_keys": (
        each(lambda k: k.replace("layers.", "layers.layers.")),
        "without 'layers.layers.' they would be the model's",
    ),
    "zero3_empty": (
        where(EMBEDDING, lambda t: t.new_empty(0)),
        f"stored without elements ({EMBEDDING} in {SHARD} is (0,)",
    ),
    "lost_norm": (without(NORM), "1 missing key (model.language_model.layers.3.input_layernorm.weight)"),
    "lost layer": (without("layers.7."), "13 missing keys"),
    "st-extra-tensor": (
        lambda s: {**s, "extra.weight": torch.zeros(2)} if EMBEDDING in s else s,
        "1 unexpected key (extra.weight); it has no place for them",
    ),
    "st-other-shape": (
        where("layers.0.mlp.up_proj", lambda t: t[:-1].clone()),
        "1 tensor of another shape (language_model.model.layers.0.mlp.up_proj.weight in " + SHARD + " is (159, 80), "
        "the model's is (160, 80))",
    ),
    "st-int8-tensor": (
        where("layers.0.mlp.up_proj", lambda t: t.to(torch.int8)),
        f"mlp.up_proj.weight in {SHARD} is int8, the model's is bfloat16)",
    ),
    "bool tensor": (where(NORM, lambda t: t.bool()), "is bool, the model's is bfloat16"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_by_the_audit_and_by_loading(gemma_copy: Path, name: str) -> None:
    edit, message = DAMAGES[name]
    rewrite(gemma_copy, edit)
    assert message in "; ".join(key_problems(audit(gemma_copy)))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TheWorld.from_pretrained(gemma_copy, enable_world=False)
    assert str(caught.value).startswith(str(gemma_copy))
    assert str(caught.value).isprintable()


def test_a_right_checkpoint_has_nothing_to_say(tiny: SyntheticCheckpoint) -> None:
    for model_class, config in (
        (Gemma3ForConditionalGeneration, Gemma3Config.from_pretrained(tiny.gemma)),
        (TheWorld, TheWorldConfig.from_pretrained(tiny.gemma)),
    ):
        found = audit(tiny.gemma, model_class, config)
        assert (found.num_file_keys, found.num_model_keys) == (145, 146)
        assert key_problems(found) == ()
        nothing = {
            k: getattr(found, k) for k in found.__slots__ if k not in ("folder", "num_file_keys", "num_model_keys")
        }
        assert {k: v for k, v in nothing.items() if v} == {}


def test_it_agrees_with_what_transformers_says_after_loading(gemma_copy: Path) -> None:
    rewrite(
        gemma_copy, lambda s: {**without(NORM, "layers.2.mlp")(s), **({"x.y": torch.zeros(1)} if HEAD in s else {})}
    )
    _, info = Gemma3ForConditionalGeneration.from_pretrained(gemma_copy, output_loading_info=True)
    found = audit(gemma_copy)
    assert set(found.missing) == set(info["missing_keys"])
    assert set(found.unexpected) == set(info["unexpected_keys"])
    _, ours = TheWorld.from_pretrained(gemma_copy, enable_world=False, output_loading_info=True)
    assert ours == info  # who asks for the loading info is told there


def test_a_wrong_key_in_the_index_is_said_and_harmless(gemma_copy: Path) -> None:
    move_index_key(gemma_copy)
    found = audit(gemma_copy)
    assert (found.index_missing, found.index_unlisted) == ((NORM + "x",), (NORM,))
    assert key_problems(found) == ()
    assert TheWorld.from_pretrained(gemma_copy, enable_world=False).num_parameters()


def test_a_key_of_the_index_that_no_shard_holds_is_named(gemma_copy: Path) -> None:
    rewrite(gemma_copy, without(NORM), with_index=False)
    with pytest.raises(ValueError, match=re.escape(f"{NORM} is in the index and in no shard")):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


def test_a_key_in_two_shards_is_refused(gemma_copy: Path) -> None:
    first, second = sorted(gemma_copy.glob("*.safetensors"))[:2]
    state = load_file(second)
    save_file({**state, EMBEDDING: load_file(first)[EMBEDDING] + 1}, second)
    with pytest.raises(ValueError, match=re.escape(f"1 key twice in the files ({EMBEDDING}); keep one")):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


def test_two_spellings_of_one_key_are_refused(gemma_copy: Path) -> None:
    new = "model.language_model.layers.3.input_layernorm.weight"
    rewrite(gemma_copy, lambda s: {**s, new: s[NORM].clone()} if NORM in s else s)
    assert len(audit(gemma_copy).duplicated) == 1
    with pytest.raises(ValueError, match="1 key twice in the files"):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


def test_a_tied_head_stored_twice_is_legitimate(gemma_copy: Path) -> None:
    rewrite(gemma_copy, lambda s: {**s, HEAD: s[EMBEDDING].clone()} if EMBEDDING in s else s)
    found = audit(gemma_copy)
    assert found.tied_twice == ((EMBEDDING, HEAD),)
    assert key_problems(found) == ()
    model = TheWorld.from_pretrained(gemma_copy, enable_world=False)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_tied_head_stored_in_place_of_the_table_is_legitimate(gemma_copy: Path) -> None:
    rewrite(gemma_copy, lambda s: {(HEAD if k == EMBEDDING else k): v for k, v in s.items()})
    assert key_problems(audit(gemma_copy)) == ()
    assert TheWorld.from_pretrained(gemma_copy, enable_world=False).num_parameters()


def test_casts_are_said_and_harmless(gemma_copy: Path) -> None:
    rewrite(gemma_copy, where(NORM, lambda t: t.float()))
    found = audit(gemma_copy)
    assert [(d.key, d.file_dtype, d.model_dtype) for d in found.cast] == [(NORM, "float32", "bfloat16")]
    assert key_problems(found) == ()


def test_mismatched_sizes_are_passed_over_where_the_caller_says_so(gemma_copy: Path) -> None:
    rewrite(gemma_copy, where("mm_soft_emb_norm", lambda t: t[:-1].clone()))
    with pytest.raises(ValueError, match="of another shape"):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)
    assert TheWorld.from_pretrained(gemma_copy, enable_world=False, ignore_mismatched_sizes=True).num_parameters()


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("text_config", "hidden_size", 256),
        ("text_config", "intermediate_size", 512),
        ("text_config", "vocab_size", 2048),
        ("text_config", "num_key_value_heads", 1),
        ("text_config", "head_dim", 64),
        ("vision_config", "hidden_size", 96),
        ("vision_config", "intermediate_size", 192),
        ("vision_config", "num_channels", 4),
    ],
)
def test_the_field_that_does_not_fit_the_weights_is_named(
    gemma_copy: Path, section: str, field: str, value: int
) -> None:
    path = gemma_copy / "config.json"
    values = json.loads(path.read_text())
    values[section][field] = value
    path.write_text(json.dumps(values))
    message = f"config.json: {section}.{field} does not fit the weights"
    with pytest.raises(ValueError, match=re.escape(message)):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


def test_more_layers_than_the_weights_have_are_missing_keys(gemma_copy: Path) -> None:
    path = gemma_copy / "config.json"
    values = json.loads(path.read_text())
    values["vision_config"]["num_hidden_layers"] = 3
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"16 missing keys \(model.vision_tower.encoder.layers.2"):
        TheWorld.from_pretrained(gemma_copy, enable_world=False)


WHOLE: dict[str, tuple[Callable[[State], State], str]] = {
    "compiled prefix": (each(lambda k: f"_orig_mod.{k}"), "all hold '_orig_mod.'"),
    "one norm lost": (without("layers.3.input_layernorm"), "layers.3.input_layernorm.weight"),
    "projection lost": (
        without("world_projection"),
        "model.world_projection.linear.bias, model.world_projection.linear.weight",
    ),
    "an empty tensor": (where("world_projection", lambda t: t.new_empty(0)), "world_projection.linear."),
    "VAE conv lost": (without("encoder.conv_in.weight"), "world_encoder.vae.encoder.conv_in.weight"),
}


@pytest.fixture
def saved_world(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    load_world(tiny).save_pretrained(tmp_path / "world", max_shard_size="600KB")
    return tmp_path / "world"


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_world_is_named(saved_world: Path, name: str) -> None:
    edit, message = WHOLE[name]
    rewrite(saved_world, edit)
    with pytest.raises(ValueError, match=re.escape(message)):
        TheWorld.from_pretrained(saved_world)


def test_a_saved_world_loads_resharded_and_with_its_branch_off(saved_world: Path) -> None:
    assert len(list(saved_world.glob("*.safetensors"))) > 2
    whole = TheWorld.from_pretrained(saved_world)
    assert whole.enable_world
    off = TheWorld.from_pretrained(saved_world, enable_world=False)
    assert not off.enable_world
    config = TheWorldConfig.from_pretrained(saved_world)
    assert key_problems(audit(saved_world, TheWorld, config)) == ()
    config.world_config = None
    found = audit(saved_world, TheWorld, config)
    assert found.missing == ()
    assert {key.split(".")[0] for key in found.unexpected} == {
        "world_encoder",
        "world_projection",
        "temporal_embedding",
    }


def test_conversions_that_merge_tensors_are_followed(tmp_path: Path) -> None:
    config = Qwen2MoeConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=1,
        shared_expert_intermediate_size=8, num_attention_heads=2, num_key_value_heads=2, num_experts=4,
    )  # fmt: skip
    Qwen2MoeForCausalLM(config).save_pretrained(tmp_path)
    weights = resolve_weight_files(tmp_path)
    keys = set(read_headers(weights).entries)
    assert "model.layers.0.mlp.experts.3.up_proj.weight" in keys
    assert key_problems(audit_checkpoint(weights, Qwen2MoeForCausalLM, config)) == ()
    rewrite(tmp_path, without("experts.3.up_proj"))
    assert key_problems(audit_checkpoint(weights, Qwen2MoeForCausalLM, config))


def test_a_module_that_transformers_does_not_know_keeps_its_keys(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    weights = resolve_weight_files(tmp_path)
    assert key_problems(audit_model(weights, read_headers(weights), module.to("meta"))) == ()


def test_the_4b_geometry_is_audited_in_well_under_a_second_and_draws_nothing() -> None:
    config = Gemma3Config(**geometry("4b").gemma_config)
    state = torch.get_rng_state()
    build_on_meta(Gemma3ForConditionalGeneration, config)  # imports
    start = time.perf_counter()
    model = build_on_meta(Gemma3ForConditionalGeneration, config)
    assert time.perf_counter() - start < 2.0
    assert torch.equal(torch.get_rng_state(), state)
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_words_that_stand_in_keys_too_much() -> None:
    known = {"model.layers.0.a.weight", "model.layers.1.a.weight", "head.bias"}
    assert surplus_words([f"x.y.{k}" for k in known], known.__contains__) == "x.y."
    assert surplus_words([f"_orig_mod.{k}" for k in known], known.__contains__) == "_orig_mod."
    assert surplus_words([k.replace("layers", "layers.layers") for k in known], known.__contains__) == "layers.layers."
    assert surplus_words(["other.weight"], known.__contains__) is None
    assert surplus_words(["a." * 10_000], known.__contains__) is None
