"""The world encoder: real Wan VAE, normalised latents, no gradients while it is frozen."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.conftest import make_clip
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_encoder import WorldEncoder, check_frames, load_vae, read_vae_config


def test_latents_are_the_normalised_mode(shared_world: TheWorld, tiny: SyntheticCheckpoint) -> None:
    vae = AutoencoderKLWan.from_pretrained(tiny.cosmos, subfolder="vae", torch_dtype=torch.float32)
    frames = make_clip(5)[None]
    with torch.no_grad():
        raw = vae.encode(frames).latent_dist.mode()
    mean = torch.tensor(vae.config.latents_mean).view(1, 16, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, 16, 1, 1, 1)
    latents = shared_world.world_encoder(frames)
    assert latents.shape == (1, 16, 2, 4, 4)
    torch.testing.assert_close(latents, (raw - mean) / std, rtol=0, atol=0)


def test_frozen_vae_stays_in_eval_and_keeps_no_graph(world: TheWorld) -> None:
    world.train()
    assert world.training
    assert not any(module.training for module in world.world_encoder.vae.modules())
    assert not world.world_encoder(make_clip()[None]).requires_grad
    world.set_freeze("full")
    assert world.world_encoder.vae.training
    assert world.world_encoder(make_clip()[None]).requires_grad
    world.set_freeze("projection")
    assert not world.world_encoder.vae.training


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(1, 3, 1, 8, 8, dtype=torch.uint8), "floating point in [-1, 1], got torch.uint8"),
        (torch.full((1, 3, 1, 8, 8), 255.0), "got [255.0, 255.0]; divide by 127.5 and subtract 1"),
        (torch.full((1, 3, 1, 8, 8), 1.5), "got [1.5, 1.5]; clamp or rescale them"),
        (torch.full((1, 3, 1, 8, 8), float("nan")), "must be in [-1, 1]"),
        (torch.zeros(3, 1, 8, 8), "must have shape (batch, 3, frames, height, width)"),
        (torch.zeros(1, 3, 0, 8, 8), "must have 1 + 4k frames"),
    ],
)
def test_wrong_frames_are_a_value_error(frames: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_frames(frames)


def test_a_vae_folder_serves_as_well_as_a_repository(tiny: SyntheticCheckpoint) -> None:
    from_repository, subfolder = read_vae_config(str(tiny.cosmos))
    from_folder, none = read_vae_config(str(tiny.cosmos / "vae"))
    assert (subfolder, none) == ("vae", None)
    assert from_repository == from_folder
    rebuilt = WorldEncoder.from_vae_config(from_repository)
    assert rebuilt.vae.config.z_dim == 16
    assert load_vae(str(tiny.cosmos / "vae"), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_wrong_repositories_are_value_errors(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("no vae/config.json; give a Cosmos repository")):
        read_vae_config(str(tmp_path))
    other = Path(shutil.copytree(tiny.cosmos, tmp_path / "cosmos"))
    config = other / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "AutoencoderKL"}))
    with pytest.raises(ValueError, match="_class_name is 'AutoencoderKL', and TheWorld needs 'AutoencoderKLWan'"):
        read_vae_config(str(other))
    weights = tiny.cosmos / "vae" / "diffusion_pytorch_model.safetensors"
    truncated = Path(shutil.copytree(tiny.cosmos, tmp_path / "truncated"))
    (truncated / "vae" / weights.name).write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model.safetensors: truncated"):
        load_vae(str(truncated), dtype=torch.float32)
