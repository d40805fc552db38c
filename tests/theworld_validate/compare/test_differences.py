"""The diff: one finding a kind of difference, at its first place."""

import subprocess
import sys

from theworld_validate.compare.differences import diff_section, diff_trace, differing_places, divergence_by_module


def test_equal_sections_have_no_finding() -> None:
    section = {"a": {"dtype": "float32", "digest": "1"}}
    assert diff_section("buffers", section, dict(section)) == ()


def test_first_place_in_the_references_order_and_count() -> None:
    reference = {"p/z": {"digest": "1"}, "p/a": {"digest": "2"}, "p/m": {"digest": "3"}}
    candidate = {"p/a": {"digest": "x"}, "p/z": {"digest": "1"}, "p/m": {"digest": "y"}}
    (finding,) = diff_section("trace", reference, candidate)
    assert (finding.code, finding.location) == ("trace.digest", "p/a")
    assert (finding.section, finding.field) == ("trace", "digest")
    assert "first of 2 places" in finding.message
    assert (finding.cause, finding.remedy, finding.explained_by) == (None, None, None)
    assert differing_places("trace", reference, candidate) == {"trace.digest@p/a": ("p/a", "p/m")}


def test_a_dtype_finding_replaces_its_digest_finding() -> None:
    reference = {"a": {"dtype": "float32", "digest": "1"}, "b": {"dtype": "float32", "digest": "1"}}
    candidate = {"a": {"dtype": "bfloat16", "digest": "2"}, "b": {"dtype": "float32", "digest": "2"}}
    findings = {f.code: f for f in diff_section("buffers", reference, candidate)}
    assert findings["buffers.dtype"].location == "a"
    assert (findings["buffers.dtype"].expected, findings["buffers.dtype"].actual) == ("float32", "bfloat16")
    assert findings["buffers.digest"].location == "b"


def test_missing_and_extra() -> None:
    findings = {f.code: f for f in diff_section("parameters", {"a": {"shape": "[1]"}}, {"b": {"shape": "[2]"}})}
    assert (findings["parameters.missing"].location, findings["parameters.missing"].expected) == ("a", "[1]")
    assert (findings["parameters.extra"].location, findings["parameters.extra"].actual) == ("b", "[2]")


def test_a_field_only_one_side_has_is_a_difference() -> None:
    (finding,) = diff_section("modules", {"a": {"training": False}}, {"a": {"training": False, "odd": 1}})
    assert (finding.code, finding.expected, finding.actual) == ("modules.odd", None, 1)


def test_the_spread_over_the_module_tree_is_in_call_order() -> None:
    places = ["text/a.layers.0.norm#2", "text/a.layers.0", "text/a.layers.1.norm(x)[0]", "text/head", "text/"]
    reference = {place: {"digest": "1"} for place in places}
    candidate = reference | {places[2]: {"digest": "2"}, "text/head": {"digest": "3"}}
    assert divergence_by_module(reference, dict(reference)) == {}
    assert divergence_by_module(reference, candidate) == {
        "modules": ["a.layers.0", "a.layers.1", "head", "the model"],
        "outputs": [2, 1, 1, 1],
        "differing": [0, 1, 1, 0],
    }


def test_the_first_place_of_a_trace_counts_all_that_differ() -> None:
    reference = {"p/a": {"digest": "1"}, "p/b": {"digest": "1"}, "p/c": {"digest": "1"}}
    assert diff_trace(reference, dict(reference)) is None
    finding = diff_trace(reference, reference | {"p/b": {"digest": "2"}, "p/d": {"digest": "3"}})
    assert finding is not None
    assert (finding.location, "first of 2 of 4 places" in finding.message) == ("p/b", True)


def test_what_can_differ_for_different_reasons_is_told_apart() -> None:
    def section(digest: str, *names: str) -> dict[str, dict[str, str]]:
        return {name: {"digest": digest} for name in names}

    weights = ("model.vision_tower.a.weight", "model.language_model.layers.0.a.weight", "model.language_model.b.weight")
    found = diff_section("parameters", section("1", *weights), section("2", *weights))
    assert [f.location for f in found] == list(weights[:2])
    answers = ("text/logits", "text/cache[0].keys", "image/logits")
    assert len(diff_section("outputs", section("1", *answers), section("2", *answers))) == 3


def test_where_a_tensor_lies_is_a_warning() -> None:
    (finding,) = diff_section("parameters", {"a.b": {"device": "cpu"}}, {"a.b": {"device": "cuda:0"}})
    assert (finding.code, finding.severity) == ("parameters.device", "warning")


def test_wrappers_inside_a_model_do_not_hide_what_they_wrap() -> None:
    reference = {"layers.1.mlp.up.weight": {"digest": "1"}, "lm_head.weight": {"tied_to": "layers.1.mlp.up.weight"}}
    candidate = {
        "layers.1.mlp._orig_mod.up.weight": {"digest": "1"},
        "lm_head.weight": {"tied_to": "layers.1.mlp._orig_mod.up.weight"},
    }
    assert diff_section("parameters", reference, candidate) == ()
    assert len(diff_section("parameters", reference, {**candidate, "extra.lora_A.weight": {"digest": "2"}})) == 1


def test_no_comparison_imports_torch() -> None:
    modules = ("differences", "causes", "explain", "contradictions", "numeric")
    code = ";".join(f"import theworld_validate.compare.{name}" for name in modules)
    code += ";import sys;assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
