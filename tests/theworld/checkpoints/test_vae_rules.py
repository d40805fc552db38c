"""VAE rules: an impossible config or a lost weight is one line; the VAE is loaded from the folder that was checked."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from theworld import TheWorld, WorldConfig
from theworld.checkpoints.vae_rules import check_vae_config
from theworld.geometries import geometry
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_encoder import load_vae, read_vae_config

WEIGHTS = "diffusion_pytorch_model.safetensors"
ROWS: list[tuple[str, Any]] = [
    ("latents_std", [0.0] + [1.0] * 15),
    ("latents_std", [-1.0] + [1.0] * 15),
    ("latents_std", ["1"] * 16),
    ("latents_std", [1.0] * 15),
    ("latents_std", []),
    ("latents_std", 5),
    ("latents_std", None),
    ("latents_std", [True] * 16),
    ("latents_mean", [1.0] * 17),
    ("latents_mean", [None] * 16),
    ("base_dim", 10**7),
    ("base_dim", "x"),
    ("base_dim", 0),
    ("base_dim", -16),
    ("base_dim", 16.0),
    ("decoder_base_dim", "x"),
    ("temperal_downsample", []),
    ("temperal_downsample", [True, True]),
    ("temperal_downsample", [True, True, True]),
    ("temperal_downsample", [0, 1, 1]),
    ("temperal_downsample", None),
    ("dim_mult", []),
    ("dim_mult", [1, 2]),
    ("dim_mult", [1, 2, 4, 10**9]),
    ("dim_mult", "1244"),
    ("num_res_blocks", 0),
    ("num_res_blocks", 10**9),
    ("attn_scales", 5),
    ("dropout", 2),
    ("is_residual", "x"),
    ("in_channels", 0),
    ("out_channels", 12),
    ("patch_size", 0),
    ("scale_factor_temporal", 8),
    ("scale_factor_spatial", 0),
    ("scale_factor_spatial", 16),
    ("z_dim", 0),
    ("z_dim", "16"),
    ("z_dim", True),
]


@pytest.fixture
def cosmos_copy(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.cosmos, tmp_path / "cosmos"))


@pytest.mark.parametrize(("field", "value"), ROWS, ids=[f"{f}={v!s:.30}" for f, v in ROWS])
def test_an_impossible_value_names_the_file_and_the_field(cosmos_copy: Path, field: str, value: Any) -> None:
    path = cosmos_copy / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {field} is ")) as caught:
        read_vae_config(str(cosmos_copy))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds a list, expected a JSON object"),
        ("{", "not valid JSON"),
        ('{"latents_std": [NaN]}', "NaN is not a JSON number"),
        ("{}", "_class_name is None"),
        ('{"_class_name": ["a\\n"]}', "_class_name is ['a\\n']"),
    ],
)
def test_a_config_that_is_none_names_the_file(cosmos_copy: Path, text: str, message: str) -> None:
    path = cosmos_copy / "vae" / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_vae_config(str(cosmos_copy))
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_size": 2}, "in_channels is 3; it must be 12"),
        ({"in_channels": 12, "out_channels": 12}, "in_channels is 12; it must be 3"),
        ({"z_dim": 48}, "latents_mean is missing; write its 48 numbers"),
        ({"z_dim": 48, "latents_mean": [0.0] * 16}, "it must be a list of z_dim (48) numbers"),
        ({"dim_mult": [1, 2, 4], "temperal_downsample": [True, True]}, "its scale_factor_spatial"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    if "dim_mult" in values:  # a cell of 4 x 4 pixels is one, unless the config states another
        check_vae_config(values, where="x")
        values, message = {**values, "scale_factor_spatial": 8}, "scale_factor_spatial is 8; it must be 4"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_vae_config(values, where="x")


def test_a_saved_world_with_an_impossible_vae_names_the_field(tiny: SyntheticCheckpoint) -> None:
    with pytest.raises(ValueError, match=r"world_config.vae_config: base_dim is 'x'; it must be a whole number"):
        WorldConfig(vae_config={"base_dim": "x"})


def test_both_geometries_and_tiny_ones_pass() -> None:
    for size in ("tiny", "4b"):
        check_vae_config(geometry(size).vae_config, where="x")
    check_vae_config({"base_dim": 3, "z_dim": 16, "num_res_blocks": 1}, where="x")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda s: {k: v for k, v in s.items() if k != "encoder.conv_in.weight"},
            "1 missing key (encoder.conv_in.weight)",
        ),
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, "all hold '_orig_mod.'"),
        (lambda s: {**s, "extra": torch.zeros(1)}, "1 unexpected key (extra)"),
        (lambda s: {k: v.to(torch.int8) if "conv_in" in k else v for k, v in s.items()}, "mis-typed"),
    ],
)
def test_no_weight_of_the_vae_is_left_random(cosmos_copy: Path, edit: Any, message: str) -> None:
    path = cosmos_copy / "vae" / WEIGHTS
    save_file(edit(load_file(path)), path)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_vae(str(cosmos_copy), dtype=torch.float32)


def test_a_decoy_at_the_top_of_the_repository_is_not_read(cosmos_copy: Path) -> None:
    decoy = {k: torch.zeros_like(v) for k, v in load_file(cosmos_copy / "vae" / WEIGHTS).items()}
    save_file(decoy, cosmos_copy / WEIGHTS)
    assert load_vae(str(cosmos_copy), dtype=torch.float32).encoder.conv_in.weight.any()


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument is deprecated")
def test_a_repository_that_is_not_there_is_one_line(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="nowhere/at-all: no such folder, and not to be had from the hub") as caught:
        TheWorld.from_pretrained(tiny.gemma, cosmos_model_name_or_path="nowhere/at-all")
    assert str(caught.value).isprintable()
