"""The diff: one finding a kind of difference, at its first place."""

from theworld_validate.compare.differences import diff_layer, divergence_by_module


def test_equal_layers_have_no_finding() -> None:
    layer = {"a": {"dtype": "float32", "digest": "1"}}
    assert diff_layer("buffers", layer, dict(layer)) == ()


def test_first_place_in_the_references_order_and_count() -> None:
    reference = {"z": {"digest": "1"}, "a": {"digest": "2"}, "m": {"digest": "3"}}
    candidate = {"a": {"digest": "x"}, "z": {"digest": "1"}, "m": {"digest": "y"}}
    (finding,) = diff_layer("trace", reference, candidate)
    assert (finding.code, finding.location) == ("trace.digest", "a")
    assert "first of 2 places" in finding.message
    assert finding.cause
    assert finding.remedy


def test_a_dtype_finding_replaces_its_digest_finding() -> None:
    reference = {"a": {"dtype": "float32", "digest": "1"}, "b": {"dtype": "float32", "digest": "1"}}
    candidate = {"a": {"dtype": "bfloat16", "digest": "2"}, "b": {"dtype": "float32", "digest": "2"}}
    findings = {f.code: f for f in diff_layer("buffers", reference, candidate)}
    assert findings["buffers.dtype"].location == "a"
    assert (findings["buffers.dtype"].expected, findings["buffers.dtype"].actual) == ("float32", "bfloat16")
    assert findings["buffers.digest"].location == "b"


def test_missing_and_extra() -> None:
    findings = {f.code: f for f in diff_layer("parameters", {"a": {"shape": "[1]"}}, {"b": {"shape": "[2]"}})}
    assert (findings["parameters.missing"].location, findings["parameters.missing"].expected) == ("a", "[1]")
    assert (findings["parameters.extra"].location, findings["parameters.extra"].actual) == ("b", "[2]")


def test_a_field_only_one_side_has_is_a_difference() -> None:
    (finding,) = diff_layer("modules", {"a": {"training": False}}, {"a": {"training": False, "odd": 1}})
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
