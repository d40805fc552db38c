"""The parameter audit: exact counts of the real geometry on the meta device, and figures that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from theworld import components
from theworld.components import COMPONENTS
from theworld.geometries import geometry
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.audits.explanation import DocumentedCount, explain, find_parts
from theworld_validate.audits.params import check_params
from theworld_validate.results import InputError, Status
from theworld_validate.subjects.empty_models import (
    blueprint_of_checkpoint,
    blueprint_of_file,
    blueprint_of_size,
    build_on_meta,
)


@pytest.fixture(scope="module")
def real() -> Any:
    return blueprint_of_size("4b")


def test_the_real_geometry_has_the_documented_counts(real: Any) -> None:
    ledger, presets = check_params(real)
    assert (ledger.status, presets.status) == (Status.PASSED, Status.PASSED)
    verdicts = {row["documented_as"]: row["verdict"] for row in ledger.measurements["documented"]}
    assert verdicts.pop("temporal embeddings") == "explained"
    assert set(verdicts.values()) == {"equal"}
    temporal = ledger.measurements["documented"][-1]
    assert temporal["is"] == "multi_modal_projector + vae_quant_conv + vae_post_quant_conv + vae_decoder"
    rows = {row["preset"]: row for row in presets.measurements["presets"]}
    assert (rows["documented"]["trainable"], rows["documented"]["total"]) == (76_290_451, 4_426_859_363)
    assert rows["projection"]["trainable"] == 43_520 + 32 * 2560
    tied = {row["component"]: row["tied_to"] for row in ledger.measurements["components"] if row["tied_to"]}
    assert tied == {"lm_head.weight": "model.language_model.embed_tokens.weight"}


def test_meta_counts_are_those_of_the_loaded_model(tiny: SyntheticCheckpoint, shared_world: Any) -> None:
    config = blueprint_of_checkpoint(str(tiny.gemma), str(tiny.cosmos))
    ledger, _ = check_params(config, presets=["projection"])
    meta = {row["component"]: row["total"] for row in ledger.measurements["components"] if not row["tied_to"]}
    loaded = {count.name: count.total for count in components.count_parameters(shared_world)}
    steps = shared_world.world_config.max_world_steps
    assert {**meta, "temporal_embedding": meta["temporal_embedding"] // 32 * steps} == loaded
    assert ledger.measurements["documented"] == []  # of another geometry


def test_a_figure_that_nothing_sums_to_fails(real: Any) -> None:
    changed = blueprint_of_size("4b")
    changed.text_config.vocab_size += 1
    ledger, _ = check_params(changed, presets=["projection"])
    assert ledger.status is Status.FAILED
    assert {finding.code for finding in ledger.findings} == {"params.documented"}
    assert "documented 3,880,107,008" in ledger.findings[0].message


def test_explanations() -> None:
    ledger = {"a": 5, "b": 7, "c": 11}

    def documented(count: int) -> Any:
        return explain(DocumentedCount(label="a", parts=("a",), count=count, line=1), ledger)

    assert documented(5).verdict == "equal"
    assert (documented(18).verdict, documented(18).words, documented(18).measured) == ("explained", "b + c", 5)
    assert documented(6).verdict == "different"
    assert find_parts(23, ledger) == ("a", "b", "c")


def test_components_that_do_not_cover_the_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "COMPONENTS", COMPONENTS[1:])
    with pytest.raises(InputError, match=r"vision_tower.* belongs to 0 components"):
        check_params(blueprint_of_size("tiny"))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no such freeze preset; there are projection"):
        check_params(blueprint_of_size("tiny"), presets=["half"])
    with pytest.raises(InputError, match="no such size or file; give tiny, 4b"):
        blueprint_of_size("27b")


def test_a_bare_config_counts_as_its_size(tmp_path: Path, real: Any) -> None:
    from transformers import Gemma3Config

    Gemma3Config(**geometry("4b").gemma_config).save_pretrained(tmp_path)
    config = blueprint_of_file(tmp_path / "config.json")
    assert sum(p.numel() for p in build_on_meta(config).parameters()) == 4_426_941_283


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json"),
        ("{", "config.json"),
        (json.dumps({"model_type": "llama"}), "model_type is 'llama'"),
        (json.dumps({"model_type": "gemma3", "text_config": {"hidden_size": 8}}), "text_config.model_type is ''"),
        (
            json.dumps({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": "many"}}),
            "hidden_size",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        blueprint_of_file(tmp_path / "config.json")
    assert "\n" not in str(caught.value)


def test_a_model_without_a_vae_is_refused(tiny: SyntheticCheckpoint) -> None:
    with pytest.raises(InputError, match="a model without a VAE; name a Cosmos repository"):
        blueprint_of_checkpoint(str(tiny.gemma), None)
