"""The scan: what is equal passes, what is lost is named, and what has no tiny model is said."""

import json

from tests.theworld_validate.command_line import assert_input_error, invoke


def test_a_scan_says_what_each_class_loses() -> None:
    names = ("ViTForImageClassification", "GPTNeoXForCausalLM", "BltForCausalLM")
    result = invoke("scan", *(word for name in names for word in ("--reference", f"transformers:{name}")), "--json")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert {name: checks[f"scan.{name}"]["status"] for name in names} == dict(
        zip(names, ("passed", "failed", "skipped"), strict=True)
    )
    assert checks["scan.GPTNeoXForCausalLM"]["findings"][0]["location"] == "lm_head.weight"
    assert "are not tiny" in checks["scan.BltForCausalLM"]["reason"]
    counts = checks["scan.classes"]["measurements"]
    assert [counts[name] for name in ("classes", "equal", "different", "not_loaded")] == [3, 1, 1, 1]


def test_a_class_that_is_not_there_is_one_line() -> None:
    result = invoke("scan", "--reference", "transformers:LamaForCausalLM")
    assert_input_error(result, "no such class", "did you mean LlamaForCausalLM?")
    assert_input_error(invoke("scan", "--reference", "mine:Model"), "give transformers:CLASS")
