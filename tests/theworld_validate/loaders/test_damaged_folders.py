"""Checkpoint folders as they were damaged in public: nothing is loaded from them, and what is wrong is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.loaders.asking import ask
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.results import Status
from theworld_validate.target import CANDIDATE_TARGET

State = dict[str, torch.Tensor]
Edit = Callable[[State], State]
_NORM = "language_model.model.layers.3.input_layernorm.weight"
_TABLE = "language_model.model.embed_tokens.weight"
_INDEX = "model.safetensors.index.json"


def edited(folder: Path, edit: Edit) -> Path:
    """Change the state of each shard; the index follows."""
    weight_map = {}
    for path in sorted(folder.glob("*.safetensors")):
        state = edit(load_file(path))
        save_file(state, path, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(state, path.name)
    index = folder / _INDEX
    if index.exists():
        values = json.loads(index.read_text(encoding="utf-8"))
        index.write_text(json.dumps({**values, "weight_map": weight_map}), encoding="utf-8")
    return folder


@pytest.fixture
def copy(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.gemma, tmp_path / "gemma"))


def compiled(state: State) -> State:
    return {f"_orig_mod.{name}": tensor for name, tensor in state.items()}


def nested(state: State) -> State:
    return {name.replace("layers.", "layers.layers."): tensor for name, tensor in state.items()}


def emptied(state: State) -> State:
    return {name: tensor.new_empty(0) if name == _TABLE else tensor for name, tensor in state.items()}


def norm_lost(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if name != _NORM}


def overflowing(state: State) -> State:
    words = ("pre_feedforward_layernorm.weight", "mlp.down_proj")
    return {name: tensor * 6e4 if any(word in name for word in words) else tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("edit", "root", "says"),
    [
        (norm_lost, "files.missing@model.language_model.layers.3.input_layernorm.weight", "missing"),
        (compiled, f"files.unexpected@_orig_mod.{_TABLE}", "'_orig_mod.'"),
        (nested, f"files.unexpected@{nested({_NORM.replace('3', '0'): torch.ones(1)}).popitem()[0]}", "layers."),
        (emptied, f"files.empty@{_TABLE}", "[0] in model-"),
    ],
)
def test_nothing_is_loaded_and_the_key_is_named(copy: Path, edit: Edit, root: str, says: str) -> None:
    answer = ask(edited(copy, edit), CANDIDATE_TARGET)
    assert (answer.exit_code, answer.failed, answer.roots) == (1, {"files"}, [root])
    assert says in answer.root.message
    assert str(answer.checks["files"].reason).startswith("nothing was loaded")


def test_a_pointer_of_git_lfs_is_one_line(copy: Path) -> None:
    shard = sorted(copy.glob("*.safetensors"))[1]
    shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 956752\n")
    assert_input_error(invoke("parity", "--model", copy), shard.name, "git lfs pull")


def test_a_wrong_index_beside_right_shards_passes(copy: Path) -> None:
    index = copy / _INDEX
    values = json.loads(index.read_text(encoding="utf-8"))
    values["weight_map"][_NORM + "x"] = values["weight_map"].pop(_NORM)
    index.write_text(json.dumps(values), encoding="utf-8")
    answer = ask(copy, CANDIDATE_TARGET)
    assert answer.exit_code == 0
    assert answer.checks["files"].measurements["keys_only_in_index"] == 1


@pytest.mark.parametrize("probe", ["text", "cached_decode"])
def test_an_overflow_proves_nothing_and_its_module_is_named(copy: Path, probe: str) -> None:
    answer = ask(edited(copy, overflowing), CANDIDATE_TARGET, "--dtype", "float16", probes=(probe,))
    check = answer.checks[f"probe.{probe}"]
    assert (answer.exit_code, check.status) == (3, Status.INCONCLUSIVE)
    roots = {finding.location for finding in check.findings if finding.explained_by is None}
    assert roots == {f"{probe}/model.language_model.layers.0.mlp.down_proj"}
    assert "mend it there" not in str([finding.remedy for finding in check.findings])


def world_lost(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "world_projection" not in name}


def world_emptied(state: State) -> State:
    return {name: tensor.new_empty(0) if "world_projection" in name else tensor for name, tensor in state.items()}


def one_norm_lost(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "layers.3.input_layernorm" not in name}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (compiled, "_orig_mod."),
        (one_norm_lost, "layers.3.input_layernorm.weight"),
        (world_lost, "world_projection.linear.weight"),
        (world_emptied, "world_projection.linear.bias"),
    ],
)
def test_a_spoilt_whole_checkpoint_is_a_value_error(
    tiny: SyntheticCheckpoint, tmp_path: Path, edit: Edit, says: str
) -> None:
    cosmos = str(tiny.cosmos)
    model = TheWorld.from_pretrained(str(tiny.gemma), cosmos_model_name_or_path=cosmos, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r".") as raised:
        TheWorld.from_pretrained(str(edited(tmp_path, edit)), dtype=torch.bfloat16)
    assert says in str(raised.value)
