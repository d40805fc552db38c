"""The self-test of other families: the faults that make sense there are caught, the others are not applicable."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import invoke
from theworld_validate.documents.observations import EMPTY, Fingerprint, Section
from theworld_validate.faults.catalogue import CATALOGUE, FAMILY_FAULTS
from theworld_validate.faults.needs import Need, met_by

TinyOf = Callable[[str], Path]
# For each kind a fault of its own, one of the catalogue, and those that it cannot have.
KINDS = {
    "LlamaForCausalLM": (
        ("any-weight-one-ulp", "any-embeddings-scaled-again", "eager-attention"),
        ("any-pixels-normalised-twice", "any-decoder-ids-shifted"),
    ),
    "PaliGemmaForConditionalGeneration": (
        ("any-pixels-normalised-twice", "any-norm-upcast", "shadowed-file"),
        ("any-decoder-ids-shifted", "token-types-dropped"),
    ),
    # Its forward writes a field of its config, so that it does not come back as it was loaded.
    "ViTForImageClassification": (("any-weight-frozen",), ("saved-in-higher-precision", "repetition-penalty")),
    "T5ForConditionalGeneration": (
        ("any-decoder-ids-shifted", "any-module-hook", "saved-in-higher-precision"),
        ("any-pixels-normalised-twice", "resumed-from-the-base"),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_faults_that_make_sense_are_caught_and_the_others_are_listed(tiny_of: TinyOf, name: str) -> None:
    caught, not_applicable = KINDS[name]
    asked = [word for fault in (*caught, *not_applicable) for word in ("--fault", fault)]
    result = invoke("selftest", "--model", tiny_of(name), "--dtype", "float32", "--json", *asked)
    checks = {check["id"].removeprefix("selftest."): check for check in json.loads(result.stdout)["checks"]}
    assert {fault: checks[fault]["findings"] for fault in caught} == {fault: [] for fault in caught}
    assert {checks[fault]["status"] for fault in caught} == {"passed"}
    assert result.exit_code == 0
    reasons = {fault: checks[fault]["reason"] for fault in not_applicable}
    known = CATALOGUE | FAMILY_FAULTS
    assert reasons == {fault: f"not applicable: {known[fault].needs[0]}" for fault in not_applicable}
    rates = checks["rates"]["measurements"]
    assert (rates["faults"], rates["skipped"]) == (len(caught), len(not_applicable))


def test_a_need_is_met_by_what_was_observed_alone() -> None:
    assert met_by(EMPTY, ()) == frozenset()
    sections: dict[str, Section] = {
        "modules": {"(model)": {"attn_implementation": "sdpa"}},
        "parameters": {"encoder.norm.weight": {}, "decoder.x.weight": {}},
        "outputs": {"text/embeds/logits": {}},
    }
    met = {Need.ATTENTION, Need.DECODER, Need.NORM, Need.EMBEDDINGS, Need.IMAGES}
    assert met_by(Fingerprint(sections=sections), ("text", "image")) == met


def test_a_fault_of_any_family_is_no_fault_of_gemmas_catalogue() -> None:
    assert not CATALOGUE.keys() & FAMILY_FAULTS.keys()
    assert all(Need.GEMMA3 not in fault.needs for fault in FAMILY_FAULTS.values())
