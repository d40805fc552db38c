"""Trainable-only checkpoints: small, bit-identical, and bound to their base."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import load_world
from tests.theworld.test_loading import assert_equal_bits
from theworld import FreezeConfig, TheWorld
from theworld.synthetic import SyntheticCheckpoint


def save_trained(tiny: SyntheticCheckpoint, root: Path) -> tuple[TheWorld, Path]:
    """A trained model, and the folder of its trainable parameters; its base is a copy."""
    base = SyntheticCheckpoint(
        gemma=Path(shutil.copytree(tiny.gemma, root / "base" / "gemma")),
        cosmos=Path(shutil.copytree(tiny.cosmos, root / "base" / "cosmos")),
    )
    world = load_world(base)
    with torch.no_grad():
        world.world_projection.linear.weight.add_(1.0)
    world.save_pretrained(root / "trained", trainable_only=True)
    return world, root / "trained"


@pytest.fixture
def saved(tiny: SyntheticCheckpoint, tmp_path: Path) -> tuple[TheWorld, Path]:
    """A trained model and its folder, beside a base that a test may change."""
    return save_trained(tiny, tmp_path)


@pytest.fixture(scope="module")
def saved_once(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained(tiny, tmp_path_factory.mktemp("once"))[1]


@pytest.fixture
def trained(saved_once: Path, tmp_path: Path) -> Path:
    """A trainable-only folder that a test may damage; its base stays as it is."""
    return Path(shutil.copytree(saved_once, tmp_path / "trained"))


def test_round_trip_is_bit_identical_and_small(saved: tuple[TheWorld, Path]) -> None:
    world, folder = saved
    names = ["config.json", "theworld_base.json", "trainable.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    trainable, total, _ = world.get_trainable_parameters()
    assert (folder / "trainable.safetensors").stat().st_size < 4 * trainable + 1000 < total
    loaded = TheWorld.from_pretrained(folder, dtype=torch.float32)
    assert_equal_bits(loaded, world)
    assert loaded.world_config == world.world_config
    assert loaded.get_trainable_parameters() == world.get_trainable_parameters()


def flip_last_bit(path: Path) -> None:
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)


def set_field(field: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))

    return change


CHANGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "weights": ("gemma/model-00002-of-00004.safetensors", flip_last_bit, "base checkpoint"),
    "VAE's weights": ("cosmos/vae/diffusion_pytorch_model.safetensors", flip_last_bit, "Cosmos VAE"),
    "pt-base-config": ("gemma/config.json", set_field("initializer_range", 0.1), "base checkpoint"),
    "generation config": ("gemma/generation_config.json", set_field("top_k", 5), "base checkpoint"),
    "tokenizer": ("gemma/tokenizer.json", set_field("version", "2.0"), "base checkpoint"),
    "VAE's config": ("cosmos/vae/config.json", set_field("dropout", 0.5), "Cosmos VAE"),
    "no generation config": ("gemma/generation_config.json", Path.unlink, "base checkpoint"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_base_is_refused_and_its_file_named(saved: tuple[TheWorld, Path], name: str) -> None:
    _, folder = saved
    file, change, what = CHANGES[name]
    change(folder.parent / "base" / file)
    with pytest.raises(ValueError, match=rf"trained on another {what}: .*{Path(file).name} changed since"):
        TheWorld.from_pretrained(folder, dtype=torch.float32)


def test_what_does_not_decide_behaviour_may_change(saved: tuple[TheWorld, Path]) -> None:
    world, folder = saved
    gemma = folder.parent / "base" / "gemma"
    set_field("transformers_version", "9.9.9")(gemma / "config.json")
    (gemma / "chat_template.jinja").write_text("{{ 'another' }}")
    state = {k: v for path in sorted(gemma.glob("*.safetensors")) for k, v in load_file(path).items()}
    for path in gemma.glob("model*"):
        path.unlink()
    save_file(state, gemma / "model.safetensors")  # resharded
    assert_equal_bits(TheWorld.from_pretrained(folder, dtype=torch.float32), world)


def test_a_decoy_beside_the_bases_shards_is_refused(saved: tuple[TheWorld, Path]) -> None:
    _, folder = saved
    gemma = folder.parent / "base" / "gemma"
    shutil.copyfile(gemma / "model-00001-of-00004.safetensors", gemma / "model.safetensors")
    with pytest.raises(ValueError, match=r"transformers opens model.safetensors, and .* is shadowed"):
        TheWorld.from_pretrained(folder)


FIELDS: list[tuple[str, Any]] = [
    ("name_or_path", 5),
    ("name_or_path", None),
    ("name_or_path", ""),
    ("name_or_path", "a\nb"),
    ("name_or_path", "evil-org/evil"),
    ("name_or_path", "/nowhere/gemma"),
    ("name_or_path", "a/b/c/gemma"),
    ("cosmos_model_name_or_path", None),
    ("cosmos_model_name_or_path", 5),
    ("cosmos_model_name_or_path", "evil-org/evil"),
    ("digests", 5),
    ("digests", {}),
    ("digests", {"weights": "xyz"}),
    ("digests", {"config.json": "0" * 32}),
    ("cosmos_digests", None),
    ("cosmos_digests", {}),
    ("trainable", 5),
    ("trainable", []),
    ("trainable", ["lm_heads"]),
    ("trainable", "language_model"),
    ("trainable", [1]),
    ("world", [1]),
    ("world", None),
    ("world", {"frame_size": 1_000_000_000}),
    ("world", {"frame_size": "32"}),
    ("world", {"max_world_steps": 10**12}),
    ("world", {"frame_sise": 32}),
    ("world", {"vae_config": {}}),
    ("tensors", 5),
    ("tensors", {}),
    ("tensors", {"a": 5}),
    ("schema", 5),
    ("schema", None),
    ("unknown", 5),
]


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{f}={v!s:.30}" for f, v in FIELDS])
def test_every_field_is_checked(trained: Path, field: str, value: Any) -> None:
    set_field(field, value)(trained / "theworld_base.json")
    with pytest.raises(ValueError, match=r"theworld_base\.json") as caught:
        TheWorld.from_pretrained(trained)
    assert field in str(caught.value)
    assert str(caught.value).isprintable()


def edit_weights(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    return lambda path: save_file(edit(load_file(path)), path)


def pickle_instead(path: Path) -> None:
    path.rename(path.with_suffix(".bin"))


WEIGHTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pt-all-removed": (edit_weights(lambda s: {}), "is missing, and F32"),
    "one removed": (
        edit_weights(lambda s: {k: v for k, v in s.items() if "bias" not in k}),
        "world_projection.linear.bias is missing, and F32 [80] was saved",
    ),
    "one added": (edit_weights(lambda s: {**s, "a": torch.zeros(1)}), "a is F32 [1], and nothing was saved"),
    "pt-tensor-nan": (
        edit_weights(lambda s: {k: v * float("nan") for k, v in s.items()}),
        "values that are not finite",
    ),
    "infinity": (edit_weights(lambda s: {k: v / 0 for k, v in s.items()}), "values that are not finite"),
    "pt-tensor-int8": (edit_weights(lambda s: {k: v.to(torch.int8) for k, v in s.items()}), "is I8 [4, 80], and F32"),
    "half": (edit_weights(lambda s: {k: v.half() for k, v in s.items()}), "is F16 [4, 80], and F32"),
    "shape": (edit_weights(lambda s: {k: v[:1].clone() for k, v in s.items()}), "is F32 [1, 80], and F32 [4, 80]"),
    "pt-weights-missing": (Path.unlink, "trainable.safetensors: missing; save the checkpoint again"),
    "pt-weights-bin": (pickle_instead, "missing (trainable.bin is a pickle, which is never opened)"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "trainable.safetensors: truncated"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights_are_named(trained: Path, name: str) -> None:
    damage, message = WEIGHTS[name]
    damage(trained / "trainable.safetensors")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TheWorld.from_pretrained(trained, dtype=torch.float32)
    assert str(trained / "trainable.safetensors") in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_moved_base_is_named(saved: tuple[TheWorld, Path]) -> None:
    _, folder = saved
    base = folder.parent / "base"
    base.rename(folder.parent / "elsewhere")
    with pytest.raises(ValueError, match=re.escape(f"its base {base}/gemma is not there; put it back, or edit field")):
        TheWorld.from_pretrained(folder)


def test_a_folder_of_the_first_release_loads(saved: tuple[TheWorld, Path]) -> None:
    world, folder = saved
    path = folder / "theworld_base.json"
    values = json.loads(path.read_text())
    first = {k: values[k] for k in ("name_or_path", "cosmos_model_name_or_path", "world", "trainable")}
    first |= {"schema": "theworld-trainable/1", "digest": values["digests"]["weights"]}
    first |= {"cosmos_digest": values["cosmos_digests"]["weights"]}
    path.write_text(json.dumps(first))
    assert_equal_bits(TheWorld.from_pretrained(folder, dtype=torch.float32), world)
    edit_weights(lambda s: {k: v for k, v in s.items() if "bias" not in k})(folder / "trainable.safetensors")
    with pytest.raises(ValueError, match=r"lacks world_projection.linear.bias, which was trained"):
        TheWorld.from_pretrained(folder)
    path.write_text(json.dumps({k: v for k, v in first.items() if k != "digest"}))
    with pytest.raises(ValueError, match="missing field digest"):
        TheWorld.from_pretrained(folder)


def test_a_world_with_its_own_branch_is_a_base(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    load_world(tiny).save_pretrained(tmp_path / "whole")
    world = TheWorld.from_pretrained(tmp_path / "whole")
    with torch.no_grad():
        world.world_projection.linear.weight.add_(1.0)
    world.save_pretrained(tmp_path / "trained", trainable_only=True)
    assert json.loads((tmp_path / "trained" / "theworld_base.json").read_text())["cosmos_model_name_or_path"] is None
    assert_equal_bits(TheWorld.from_pretrained(tmp_path / "trained"), world)


def test_what_an_earlier_stage_trained_is_kept(saved: tuple[TheWorld, Path], tmp_path: Path) -> None:
    _, folder = saved
    second = TheWorld.from_pretrained(folder, dtype=torch.float32, freeze=FreezeConfig(trainable=("vae_encoder",)))
    second.save_pretrained(tmp_path / "second", trainable_only=True)
    assert "world_projection.linear.weight" in load_file(tmp_path / "second" / "trainable.safetensors")
    assert_equal_bits(TheWorld.from_pretrained(tmp_path / "second", dtype=torch.float32), second)


def test_it_brings_its_own_settings(saved: tuple[TheWorld, Path], tiny: SyntheticCheckpoint) -> None:
    _, folder = saved
    with pytest.raises(ValueError, match="brings its own base"):
        TheWorld.from_pretrained(folder, cosmos_model_name_or_path=str(tiny.cosmos))


def test_a_file_of_another_schema_is_refused(saved: tuple[TheWorld, Path]) -> None:
    _, folder = saved
    base = folder / "theworld_base.json"
    values = json.loads(base.read_text())
    base.write_text(json.dumps({**values, "schema": "other/1"}))
    with pytest.raises(ValueError, match="field schema is other/1, not 'theworld-trainable/2'"):
        TheWorld.from_pretrained(folder)
    base.write_text(json.dumps({k: v for k, v in values.items() if k != "digests"}))
    with pytest.raises(ValueError, match="missing field digests"):
        TheWorld.from_pretrained(folder)
    base.write_text("[]")
    with pytest.raises(ValueError, match="holds a list, expected a JSON object"):
        TheWorld.from_pretrained(folder)


def test_weights_of_another_configuration_are_refused(saved: tuple[TheWorld, Path]) -> None:
    _, folder = saved
    base = folder / "theworld_base.json"
    values = json.loads(base.read_text())
    base.write_text(json.dumps({**values, "world": {**values["world"], "max_world_steps": 9}}))
    with pytest.raises(ValueError, match=r"temporal_embedding.embedding.weight is \(4, 80\), the model's is \(9, 80\)"):
        TheWorld.from_pretrained(folder)
    base.write_text(json.dumps({**values, "world": {**values["world"], "use_temporal_embedding": False}}))
    with pytest.raises(ValueError, match="has no parameter temporal_embedding"):
        TheWorld.from_pretrained(folder)


def test_nothing_to_save_is_a_value_error(world: TheWorld, tmp_path: Path) -> None:
    world.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        world.save_pretrained(tmp_path / "x", trainable_only=True)
    world.world_projection.linear.bias.requires_grad_(True)
    with pytest.raises(ValueError, match="only a part of world_projection is trainable"):
        world.save_pretrained(tmp_path / "x", trainable_only=True)
    assert not (tmp_path / "x").exists()
