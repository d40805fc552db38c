"""Loaders that people really have: each gives the roots that it should, and no sentence denies another."""

import re

from tests.theworld_validate.compare.small_model import (
    HEAD,
    ROTARY,
    Model,
    changed,
    differ_from,
    explain_between,
    roots_of,
    small_model,
)
from theworld_validate.compare.advice import EQUAL_UP_TO_HERE
from theworld_validate.compare.causes import Cause, classify
from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.explain import Evidence, explain, rank_roots
from theworld_validate.documents.observations import STATE_SECTIONS
from theworld_validate.results import Finding

TOWER = "model.vision_tower.layers.0.q_proj"
Q_PROJ = "model.language_model.layers.0.q_proj"


def round_trip(field: str, location: str) -> Finding:
    code = f"round_trip.written_{field}" if location.startswith("written/") else f"round_trip.{field}"
    return Finding(code=code, location=location, message=f"{location} differs", section="round_trip", field=field)


def test_a_trained_head_beside_a_tied_config_is_one_cause_and_is_not_thrown_away() -> None:
    candidate = small_model()
    candidate["parameters"][f"{HEAD}.weight"] = {"dtype": "bfloat16", "shape": "[2]", "tied_to": None, "digest": "new"}
    candidate["gradients"][f"{HEAD}.weight"] = {"gradient": "t", "digest": "new"}
    differ_from(candidate, HEAD)
    saved = [
        round_trip("tied_to", f"parameters/{HEAD}.weight"),
        round_trip("extra", f"written/{HEAD}.weight"),
        round_trip("tied_to", f"base/parameters/{HEAD}.weight"),
    ]
    explained = explain_between(candidate, more=saved)
    assert roots_of(explained) == [f"parameters.tied_to@{HEAD}.weight"]
    (root,) = rank_roots(explained)
    assert classify(root) is Cause.LOST_TIE
    assert root.remedy is not None
    assert root.remedy.startswith("to keep both tables, set tie_word_embeddings=False")


def test_a_head_that_only_the_saved_files_hold_twice() -> None:
    saved = [
        round_trip("tied_to", f"parameters/{HEAD}.weight"),
        round_trip("extra", f"written/{HEAD}.weight"),
        round_trip("tied_to", f"base/parameters/{HEAD}.weight"),
    ]
    explained = explain(saved, Evidence(compared=frozenset(STATE_SECTIONS)))
    assert roots_of(explained) == [saved[1].key]
    assert classify(explained[1]) is Cause.WRITTEN_KEYS


def test_other_keys_on_disk_are_one_cause() -> None:
    saved = [
        round_trip("missing", "written/language_model.model.layers.0.q_proj.weight"),
        round_trip("extra", "written/language_model.model.layers.layers.0.q_proj.weight"),
        round_trip("digest", f"base/parameters/{Q_PROJ}.weight"),
        Finding(code="round_trip.raised", location="round_trip", message="", section="round_trip", field="raised"),
    ]
    explained = explain(saved[:3], Evidence())
    assert roots_of(explained) == [saved[0].key]
    assert classify(explained[0]) is Cause.WRITTEN_KEYS
    assert [f.explained_by for f in explained[1:]] == [saved[0].key] * 2


def test_files_of_another_dtype() -> None:
    (root,) = explain([round_trip("dtype", f"written/{Q_PROJ}.weight")], Evidence())
    assert classify(root) is Cause.WRITTEN_DTYPE


def test_norms_upcast_are_a_weight_dtype_and_come_back_cast() -> None:
    norm = "model.language_model.layers.0.norm.weight"
    candidate = changed(
        parameters={norm: {"dtype": "float32", "digest": "x"}}, written={norm: {"dtype": "float32", "shape": "[2]"}}
    )
    explained = explain_between(candidate, more=[round_trip("dtype", f"parameters/{norm}")])
    assert roots_of(explained) == [f"parameters.dtype@{norm}"]
    assert classify(explained[0]) is Cause.WEIGHT_DTYPE


def test_a_quantised_tower_and_nothing_is_said_to_be_equal() -> None:
    candidate = changed(parameters={f"{TOWER}.weight": {"digest": "int8 and back"}})
    differ_from(candidate, TOWER, probes=("image",))
    for evidence in (None, Evidence(compared=frozenset(STATE_SECTIONS), inputs_equal={f"image/{TOWER}": True})):
        explained = explain_between(candidate, evidence)
        assert roots_of(explained) == [f"parameters.digest@{TOWER}.weight"]
        assert classify(explained[0]) is Cause.WEIGHT_BITS
        assert EQUAL_UP_TO_HERE not in str(explained)


def _with_adapter() -> Model:
    """What PEFT makes of the model: its steps are off the base's names already, as the state's sections have them."""
    candidate = small_model()
    candidate["modules"] = {"(wrapper)": {"kind": "PeftModelForCausalLM", "prefix": "base_model.model."}} | {
        name: dict(seen) for name, seen in candidate["modules"].items()
    }
    for place in (TOWER, Q_PROJ):
        candidate["modules"][place]["class"] = "peft.tuners.lora.layer.Linear"
        candidate["modules"][f"{place}.lora_A"] = {"training": True, "class": "torch.nn.ModuleDict"}
        candidate["modules"][f"{place}.base_layer"] = {"training": False, "class": "torch.nn.Linear"}
        candidate["parameters"][f"{place}.lora_A.default.weight"] = {"dtype": "float32", "shape": "[4]", "digest": "a"}
        candidate["trace"][f"image/{place}.lora_A.default"] = {"tensor": "t", "digest": "a"}
    for name, seen in candidate["parameters"].items():
        if "lora" not in name and "tied_to" not in seen:
            seen["requires_grad"] = False
    candidate["globals"]["rng_state_cpu"]["value"] = "2"
    candidate["gradients"] = {name: {"gradient": "none"} for name in candidate["gradients"]}
    return candidate


def test_an_untrained_adapter_is_one_cause_and_the_base_is_equal() -> None:
    explained = explain_between(_with_adapter(), more=[round_trip("extra", f"written/{Q_PROJ}.lora_A.weight")])
    assert {classify(f) for f in rank_roots(explained)} == {Cause.ADAPTER}
    assert roots_of(explained)[0] == "modules.extra@(wrapper)" or "class" in roots_of(explained)[0]
    additions = [f for f in explained if f.code == "parameters.extra"]
    assert all("lora_A" in f.location and f.explained_by is not None for f in additions)
    assert not [f for f in explained if f.code in ("parameters.digest", "parameters.missing")]


def test_an_adapters_inner_step_is_compared_under_the_bases_name() -> None:
    reference = {f"{Q_PROJ}.weight": {"dtype": "bfloat16", "digest": "1"}}
    inside = {f"{Q_PROJ}.base_layer.weight": {"dtype": "bfloat16", "digest": "1"}}
    assert diff_section("parameters", reference, inside) == ()
    (finding,) = diff_section("parameters", reference, {f"{Q_PROJ}.base_layer.weight": {"digest": "2"}})[:1]
    assert finding.location == f"{Q_PROJ}.weight"


def test_a_merged_adapter_leaves_what_can_be_trained_and_a_draw() -> None:
    candidate = changed(globals={"rng_state_cpu": {"value": "2"}})
    for name, seen in candidate["parameters"].items():
        if not name.startswith(HEAD):
            seen["requires_grad"] = False
    candidate["gradients"] = {name: {"gradient": "none"} for name in candidate["gradients"]}
    explained = explain_between(candidate)
    assert [classify(f) for f in rank_roots(explained)] == [Cause.TRAINABLE_FLAG, Cause.RNG_USE]


def test_a_text_model_in_place_of_the_whole_names_what_is_gone() -> None:
    """Gemma3ForCausalLM: other names everywhere, another config, and no tower."""
    whole, candidate = small_model(), small_model()

    def renamed(name: str) -> str | None:
        return None if "vision" in name else re.sub(r"model\.language_model", "model", name)

    for section in ("modules", "parameters", "buffers", "written", "gradients"):
        names = {name: renamed(name) for name in whole[section] if name != "model"}
        candidate[section] = {new: dict(whole[section][name]) for name, new in names.items() if new is not None}
    candidate["modules"]["(model)"]["transformers_class"] = "Gemma3ForCausalLM"
    candidate["modules"]["model"] = {**whole["modules"]["model"], "class": "Gemma3TextModel"}
    candidate["config"] = {"config.sliding_window": {"value": 1}, "config.dtype": {"value": "bfloat16"}}
    candidate["config"]["generation_config.top_k"] = {"value": 1}
    candidate["trace"] = {name: seen for name, seen in whole["trace"].items() if "/lm_head" in name}
    raised = Finding(
        code="outputs.raised", location="image", message="the candidate raises", section="outputs", field="raised"
    )
    explained = explain_between(candidate, more=[raised])
    roots = rank_roots(explained)
    assert roots[0].key == "modules.transformers_class@(model)"
    assert roots[0].cause is not None
    assert "model.vision_tower" in roots[0].cause
    assert "gone" in roots[0].cause
    assert [f.key for f in roots] == ["modules.transformers_class@(model)"]


def test_weights_that_lie_elsewhere_are_equal() -> None:
    reference = small_model()
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"device": "meta, offloaded to disk"}})
    findings = [f for name in STATE_SECTIONS for f in diff_section(name, reference[name], candidate[name])]
    assert [(f.code, f.severity) for f in findings] == [("parameters.device", "warning")]


def test_offloading_explains_its_hooks() -> None:
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"device": "meta, offloaded to disk"}})
    candidate["modules"][Q_PROJ] |= {"hooks": 1, "overrides": "forward"}
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"parameters.device@{Q_PROJ}.weight"]
    assert classify(explained[0]) is Cause.HOOK or explained[0].explained_by is not None


def test_a_wrapper_alone_explains_no_result() -> None:
    candidate = small_model()
    candidate["modules"]["(wrapper)"] = {"kind": "DataParallel", "prefix": "module."}
    differ_from(candidate, f"{ROTARY}(full_attention)[0]")
    roots = rank_roots(explain_between(candidate))
    assert [classify(f) for f in roots] == [Cause.WRAPPER, Cause.POSITIONS]


def test_a_compiled_model_explains_its_results() -> None:
    candidate = changed(modules={"(model)": {"compiled": True}})
    candidate["trace"]["text/(compiled)"] = {"value": "traced with torch.compile switched off"}
    candidate["outputs"]["text/logits"] = {"tensor": "t", "digest": "other"}
    roots = rank_roots(explain_between(candidate))
    assert [classify(f) for f in roots] == [Cause.COMPILED]


def test_keys_with_a_wrappers_prefix_are_one_cause() -> None:
    keys = [f"language_model.model.layers.{i}.mlp.up_proj.weight" for i in range(3)]
    problems = [
        Finding(code=f"files.{problem}", location=f"{prefix}{key}", message="", section="files", field=problem)
        for problem, prefix in (("missing", ""), ("unexpected", "_orig_mod."))
        for key in keys
    ]
    tied = Finding(code="files.missing", location="lm_head.weight", message="", section="files", field="missing")
    for found in (problems, [tied, *problems], [*problems, tied]):
        assert roots_of(explain(found, Evidence())) == [f"files.unexpected@_orig_mod.{keys[0]}"]
