"""A checkpoint's files: each damage is one observation at its key, from headers alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import load_world
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.fingerprint.files import SUMMARY, fingerprint_files, fingerprint_values, verify_checksums
from theworld_validate.results import InputError

State = dict[str, torch.Tensor]
NORM = "language_model.model.layers.3.input_layernorm.weight"
PARAMETER = "model.language_model.layers.3.input_layernorm.weight"
TABLE = "language_model.model.embed_tokens.weight"


def rewrite(folder: Path, edit: Callable[[State], State]) -> None:
    """Edit the state of each shard; the index follows."""
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        state = edit(load_file(shard))
        save_file(state, shard, metadata={"format": "pt"})
        index["weight_map"].update(dict.fromkeys(state, shard.name))
    path.write_text(json.dumps(index), encoding="utf-8")


def replaced(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], State]:
    return lambda state: {name: change(tensor) if name == key else tensor for name, tensor in state.items()}


def test_a_whole_checkpoint_has_nothing_but_its_counts(tiny: SyntheticCheckpoint) -> None:
    seen = fingerprint_files(str(tiny.gemma))
    assert set(seen) == {SUMMARY}
    counts = seen[SUMMARY]
    assert (counts["keys"], counts["parameters"], counts["files"]) == (145, 146, 4)
    assert set(fingerprint_values(str(tiny.gemma))) == {SUMMARY}
    assert verify_checksums(str(tiny.gemma)) == {SUMMARY: {"files": 0}}


def test_a_world_checkpoint_is_held_against_its_own_class(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    load_world(tiny).save_pretrained(tmp_path)
    assert set(fingerprint_files(str(tmp_path))) == {SUMMARY}
    for path in tmp_path.glob("*.safetensors"):
        state = {name: tensor for name, tensor in load_file(path).items() if "world_projection" not in name}
        save_file(state, path, metadata={"format": "pt"})
    problems = fingerprint_files(str(tmp_path))
    missing = {name for name, seen in problems.items() if seen.get("problem") == "missing"}
    assert missing
    assert all("world_projection" in name for name in missing)


@pytest.mark.parametrize(
    ("edit", "where", "problem", "detail"),
    [
        (lambda s: {k: v for k, v in s.items() if k != NORM}, PARAMETER, "missing", None),
        (lambda s: s | ({f"{NORM}.extra": s[NORM].clone()} if NORM in s else {}), f"{NORM}.extra", "unexpected", None),
        (replaced(NORM, lambda t: t[:-1].clone()), NORM, "mismatched", "[79] in "),
        (replaced(TABLE, lambda t: t.new_empty(0)), TABLE, "empty", "[0] in model-00001-of-00004.safetensors"),
        (replaced(NORM, lambda t: t.to(torch.int8)), NORM, "mistyped", "int8 in "),
        (
            lambda s: s | ({"lm_head.weight": s[TABLE].clone()} if TABLE in s else {}),
            "lm_head.weight",
            "tied_twice",
            f"of {TABLE}",
        ),
    ],
    ids=["missing", "unexpected", "mismatched", "empty", "mistyped", "tied_twice"],
)
def test_a_damage_is_said_at_its_key(
    gemma_copy: Path, edit: Callable[[State], State], where: str, problem: str, detail: str | None
) -> None:
    rewrite(gemma_copy, edit)
    seen = fingerprint_files(str(gemma_copy))
    assert set(seen) == {where, SUMMARY}
    assert seen[where]["problem"] == problem
    assert (detail or "") in str(seen[where]["detail"] or "")


@pytest.mark.parametrize(
    ("edit", "surplus"),
    [
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, "_orig_mod."),
        (lambda s: {k.replace("layers.", "layers.layers."): v for k, v in s.items()}, "layers.layers."),
    ],
)
def test_a_prefix_too_much_is_named(gemma_copy: Path, edit: Callable[[State], State], surplus: str) -> None:
    rewrite(gemma_copy, edit)
    seen = fingerprint_files(str(gemma_copy))
    assert seen[SUMMARY]["surplus"] == surplus
    unexpected = {key: value for key, value in seen.items() if value.get("problem") == "unexpected"}
    assert unexpected
    assert all(surplus in str(value["detail"]) for value in unexpected.values())


def test_a_wrong_index_over_right_shards_is_counted_and_no_problem(gemma_copy: Path) -> None:
    path = gemma_copy / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"][f"{NORM}x"] = index["weight_map"].pop(NORM)
    path.write_text(json.dumps(index), encoding="utf-8")
    seen = fingerprint_files(str(gemma_copy))
    assert set(seen) == {SUMMARY}
    assert (seen[SUMMARY]["keys_only_in_index"], seen[SUMMARY]["keys_not_in_index"]) == (1, 1)


def test_a_shard_of_another_save_is_said_at_its_file(gemma_copy: Path) -> None:
    save_file({"left": torch.zeros(1)}, gemma_copy / "model-00009-of-00009.safetensors")
    (gemma_copy / "pytorch_model.bin").write_bytes(b"another framework's")
    seen = fingerprint_files(str(gemma_copy))
    assert {name: value["problem"] for name, value in seen.items() if name != SUMMARY} == {
        "model-00009-of-00009.safetensors": "shadowed"
    }
    assert seen[SUMMARY]["other_weight_files"] == 2


def spoil(state: State) -> State:
    if NORM in state:
        state[NORM][3] = float("nan")
    if TABLE in state:
        state["lm_head.weight"] = state[TABLE].clone()
        state["lm_head.weight"][0, 0] += 1
    key = "language_model.model.layers.0.mlp.up_proj.weight"
    return state | ({key: torch.zeros_like(state[key])} if key in state else {})


def test_every_value_is_read_once(gemma_copy: Path) -> None:
    rewrite(gemma_copy, spoil)
    seen = fingerprint_values(str(gemma_copy))
    assert {name: value["problem"] for name, value in seen.items() if name != SUMMARY} == {
        NORM: "non_finite",
        "language_model.model.layers.0.mlp.up_proj.weight": "all_zero",
        "lm_head.weight": "tied_different",
    }
    assert str(seen[NORM]["detail"]).startswith("1 elements, in model-")


def test_a_truncated_file_is_bad_input(gemma_copy: Path) -> None:
    path = gemma_copy / "model-00002-of-00004.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    for read in (fingerprint_files, fingerprint_values):
        with pytest.raises(InputError, match=r"model-00002-of-00004\.safetensors: truncated"):
            read(str(gemma_copy))


def test_a_damaged_download_is_not_what_its_name_says(gemma_copy: Path, tmp_path: Path) -> None:
    import hashlib

    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for path in sorted(gemma_copy.glob("*.safetensors")):
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        path.symlink_to(blob)
    assert verify_checksums(str(gemma_copy)) == {SUMMARY: {"files": 4}}
    damaged = sorted(gemma_copy.glob("*.safetensors"))[2]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    seen = verify_checksums(str(gemma_copy))
    assert set(seen) == {damaged.name, SUMMARY}
    assert seen[damaged.name]["problem"] == "damaged"


def test_a_quantised_checkpoint_is_counted_and_not_audited(gemma_copy: Path) -> None:
    from theworld_validate.fingerprint import files

    found = files.architecture_of(str(gemma_copy))
    found.config.quantization_config = {"quant_method": "torchao"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "architecture_of", lambda checkpoint: found)
        seen = fingerprint_files(str(gemma_copy))
    assert set(seen) == {SUMMARY}
    assert seen[SUMMARY]["parameters"] is None
    assert "quantised" in str(seen[SUMMARY]["not_audited"])
