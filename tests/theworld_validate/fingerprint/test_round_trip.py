"""The round trip: what survives saving, what others make of the files, and that nothing else is lost to an error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.theworld_validate.subjects import loaders
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.documents.observations import Fingerprint, Section
from theworld_validate.fingerprint import round_trip
from theworld_validate.fingerprint.round_trip import fingerprint_round_trip
from theworld_validate.fingerprint.scratch import scratch_folder
from theworld_validate.fingerprint.state import fingerprint_state

# As in a worker: the libraries warn of an offloaded model, and PEFT asks transformers under a name that will go.
pytestmark = pytest.mark.filterwarnings("ignore")
_NOT_SAVED = ("device", "requires_grad", "hooks")


def part(seen: Fingerprint, prefix: str) -> Section:
    section = seen.sections["round_trip"]
    return {key.removeprefix(prefix): value for key, value in section.items() if key.startswith(prefix)}


def saved(section: Section) -> Section:
    return {name: {k: v for k, v in seen.items() if k not in _NOT_SAVED} for name, seen in section.items()}


def load(loader: Callable[..., Any], tiny: SyntheticCheckpoint) -> Any:
    return loader(str(tiny.gemma), dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def reference(tiny: SyntheticCheckpoint) -> Fingerprint:
    return fingerprint_round_trip(load(loaders.auto, tiny))


@pytest.mark.parametrize(
    "loader",
    [
        loaders.auto,
        loaders.resharded,
        loaders.peft_merged_trained,
        loaders.compiled_outside,
        loaders.compiled_in_place,
        loaders.offloaded,
        loaders.wrapped,
        loaders.holder,
        loaders.returns_pair,
    ],
)
def test_a_model_comes_back_and_others_can_load_it(
    reference: Fingerprint, tiny: SyntheticCheckpoint, loader: Callable[..., Any]
) -> None:
    model = load(loader, tiny)
    before = fingerprint_state(model).sections
    seen = fingerprint_round_trip(model)
    assert seen.failures == ()
    assert part(seen, "config/") == before["config"]
    for name in ("parameters", "buffers"):
        assert saved(part(seen, f"{name}/")) == saved(before[name])
        assert saved(part(seen, f"base/{name}/")) == saved(before[name])
    assert part(seen, "written/") == part(reference, "written/")


def test_the_world_model_with_its_branch_off_writes_what_gemma_writes(
    reference: Fingerprint, tiny: SyntheticCheckpoint
) -> None:
    model = TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.bfloat16)
    seen = fingerprint_round_trip(model)
    assert seen.failures == ()
    for prefix in ("written/", "parameters/", "base/parameters/", "base/buffers/"):
        assert part(seen, prefix) == part(reference, prefix) != {}


def test_an_adapter_is_saved_and_loaded_its_own_way(tiny: SyntheticCheckpoint) -> None:
    model = load(loaders.peft_trained, tiny)
    before = fingerprint_state(model).sections
    seen = fingerprint_round_trip(model)
    assert seen.failures == ()
    assert part(seen, "parameters/") == before["parameters"]
    assert part(seen, "buffers/") == before["buffers"]
    written = part(seen, "written/")
    assert written
    assert all("lora_" in key for key in written)


def test_an_adapter_whose_base_is_gone_is_a_failure(tiny: SyntheticCheckpoint) -> None:
    model = load(loaders.peft_fresh, tiny)
    model.get_base_model().name_or_path = "gone/base"
    seen = fingerprint_round_trip(model)
    assert seen.failures[0].error.startswith("from_pretrained of its own class raises")
    assert part(seen, "written/")


def test_keys_that_only_its_own_loader_knows(reference: Fingerprint, tiny: SyntheticCheckpoint) -> None:
    """Its own round trip is fine; the base class finds none of the layers in the files."""
    model = load(loaders.OddKeys.from_pretrained, tiny)
    before = fingerprint_state(model).sections["parameters"]
    seen = fingerprint_round_trip(model)
    assert part(seen, "parameters/") == before
    assert any("layers.layers." in key for key in part(seen, "written/"))
    base = part(seen, "base/parameters/")
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert base[name]["digest"] != before[name]["digest"]


def test_a_head_that_drifts_while_saving(tiny: SyntheticCheckpoint) -> None:
    seen = fingerprint_round_trip(load(loaders.GatheredAndDrifted.from_pretrained, tiny))
    for prefix in ("parameters/", "base/parameters/"):
        assert part(seen, prefix)["lm_head.weight"]["tied_to"] is None
    assert any(key.endswith("lm_head.weight") for key in part(seen, "written/"))


def test_a_trained_head_of_its_own_is_written_beside_the_embedding(
    reference: Fingerprint, tiny: SyntheticCheckpoint
) -> None:
    model = load(loaders.merged_head, tiny)
    before = fingerprint_state(model).sections["parameters"]["lm_head.weight"]
    seen = fingerprint_round_trip(model)
    assert set(part(seen, "written/")) - set(part(reference, "written/")) == {"lm_head.weight"}
    assert part(seen, "parameters/")["lm_head.weight"]["digest"] == before["digest"]


def test_norms_in_float32_are_written_and_not_loaded_again(tiny: SyntheticCheckpoint) -> None:
    seen = fingerprint_round_trip(load(loaders.norms_in_float32, tiny))
    name = "model.layers.0.input_layernorm.weight"
    written = {key: value["dtype"] for key, value in part(seen, "written/").items() if key.endswith(name)}
    assert set(written.values()) == {"float32"}
    loaded = part(seen, "parameters/")["model.language_model.layers.0.input_layernorm.weight"]
    assert loaded["dtype"] == "bfloat16"


def test_a_generation_config_that_cannot_be_saved_costs_itself_alone(
    reference: Fingerprint, tiny: SyntheticCheckpoint
) -> None:
    model = load(loaders.unsavable, tiny)
    before = fingerprint_state(model).sections
    seen = fingerprint_round_trip(model)
    (failure,) = seen.failures
    assert failure.section == "round_trip"
    assert failure.error.startswith("save_pretrained, checking the model's generation config, raises ValueError:")
    assert part(seen, "parameters/") == before["parameters"]
    assert part(seen, "config/") == before["config"]
    assert part(seen, "base/parameters/") == part(reference, "base/parameters/")
    assert type(model.generation_config).__module__.startswith("transformers.")


def test_a_model_of_another_kind_is_not_loaded_by_the_base_class(tiny: SyntheticCheckpoint) -> None:
    seen = fingerprint_round_trip(load(loaders.causal_only, tiny))
    (failure,) = seen.failures
    assert "the files are of model_type 'gemma3_text'" in failure.error
    assert part(seen, "parameters/")
    assert not part(seen, "base/")


class Unsavable(loaders.Gemma3ForConditionalGeneration):
    def save_pretrained(self, *inputs: Any, **arguments: Any) -> None:
        raise GeneratorExit


class Unloadable(loaders.Gemma3ForConditionalGeneration):
    from_pretrained = None


@pytest.mark.parametrize(
    ("spoilt", "said", "prefixes"),
    [
        (Unsavable, "save_pretrained raises GeneratorExit", set()),
        (Unloadable, "from_pretrained of its own class raises TypeError", {"written", "base"}),
    ],
)
def test_what_raises_costs_no_more_than_it_must(
    tiny: SyntheticCheckpoint, spoilt: type, said: str, prefixes: set[str]
) -> None:
    model = load(loaders.auto, tiny)
    model.__class__ = spoilt
    seen = fingerprint_round_trip(model)
    assert seen.failures[0].error.startswith(said)
    assert len(seen.failures) == 1
    assert {key.partition("/")[0] for key in seen.sections["round_trip"]} == prefixes


def test_a_pickle_is_said_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert round_trip.read_written(tmp_path) == {"written/pytorch_model.bin": {"dtype": "pickle", "shape": None}}


def test_scratch_folders_go_and_those_left_behind_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from theworld_validate.fingerprint import scratch

    monkeypatch.setattr(scratch, "_IN_MEMORY", tmp_path)
    monkeypatch.setattr(scratch, "_SECONDS_TO_LOCK", -1)
    left_behind = tmp_path / "theworld-round-trip-of-a-killed-process"
    left_behind.mkdir()
    (left_behind / "model.safetensors").write_bytes(b"x")
    (tmp_path / "somebody-elses").mkdir()
    with scratch_folder(1) as one:
        assert one.parent == tmp_path
        assert not left_behind.exists()
        with scratch_folder(1):  # one in use is left alone
            assert one.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]


def test_scratch_goes_to_disk_where_memory_is_short() -> None:
    with scratch_folder(10**15) as folder:
        assert not str(folder).startswith("/dev/shm")
