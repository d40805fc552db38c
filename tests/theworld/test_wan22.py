"""The Wan 2.2 VAE, of Cosmos 3: 48 channels of 16 x 16 pixels, from loading to training, by its own config alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.conftest import load_world, make_clip
from tests.theworld.training.conftest import data as data  # noqa: PLC0414
from tests.theworld.training.conftest import make, stage
from theworld import RolloutConfig, TheWorld, TheWorldProcessor, WorldConfig
from theworld.synthetic import SyntheticCheckpoint, cached_checkpoint
from theworld.synthetic_pipeline import write_pipeline
from theworld.training.run import run
from theworld.vae_geometries import vae_config
from theworld_validate.audits.latents_statistics import audit_latents_statistics
from theworld_validate.audits.params import check_params
from theworld_validate.memory.cell_inputs import input_shapes
from theworld_validate.memory.cells import Cell
from theworld_validate.results import Status
from theworld_validate.subjects.empty_models import blueprint_of_checkpoint
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET
from theworld_validate.world.check import check_world
from theworld_validate.world.rollouts import check_rollouts

TOKENS = 2 * 2 * 2  # of a clip of 5 frames of 32 pixels


@pytest.fixture(scope="module")
def wan22(_quiet_and_own_cache: None) -> SyntheticCheckpoint:
    return cached_checkpoint("tiny", vae="wan2.2")


@pytest.fixture(scope="module")
def model(wan22: SyntheticCheckpoint) -> TheWorld:
    return load_world(wan22)


@pytest.fixture(scope="module")
def inputs(wan22: SyntheticCheckpoint, model: TheWorld) -> dict[str, Any]:
    processor = TheWorldProcessor.from_pretrained(wan22.gemma, world_config=model.world_config)
    return dict(processor(text="<start_of_world>Next?", world_frames=make_clip(), return_tensors="pt"))


def test_it_is_written_as_the_real_one_is_laid_out(wan22: SyntheticCheckpoint, tiny: SyntheticCheckpoint) -> None:
    config = json.loads((wan22.cosmos / "vae" / "config.json").read_text())
    assert (config["z_dim"], config["patch_size"], config["scale_factor_spatial"]) == (48, 2, 16)
    assert wan22.gemma.parent != tiny.gemma.parent
    with torch.device("meta"):
        real = AutoencoderKLWan(**vae_config("wan2.2", "4b"))
    assert sum(parameter.numel() for parameter in real.parameters()) == 704_688_668


def test_a_quarter_of_the_tokens(model: TheWorld, inputs: dict[str, Any]) -> None:
    real = {"vae_config": vae_config("wan2.2", "4b")}
    assert WorldConfig.from_dict(real).tokens_per_step() == 196
    assert int((inputs["input_ids"] == model.world_config.world_token_id).sum()) == TOKENS
    assert model.world_projection.linear.in_features == 48
    with pytest.raises(ValueError, match="frame_size must be a multiple of 16, got 40; 32 or 48 would do"):
        WorldConfig.from_dict({**real, "frame_size": 40})


def test_latents_are_normalised_by_its_own_statistics(model: TheWorld) -> None:
    vae, frames = model.world_encoder.vae, make_clip()[None]
    with torch.no_grad():
        raw = vae.encode(frames).latent_dist.mode().double()
        latents = model.world_encoder(frames)
    mean, std = (torch.tensor(vae.config[f"latents_{name}"], dtype=torch.float64) for name in ("mean", "std"))
    expected = (raw - mean.view(1, 48, 1, 1, 1)) / std.view(1, 48, 1, 1, 1)
    torch.testing.assert_close(latents.double(), expected, rtol=1e-5, atol=1e-5)
    assert audit_latents_statistics(model) == []


def test_a_saved_model_and_the_processor_beside_it_come_back(
    wan22: SyntheticCheckpoint, model: TheWorld, inputs: dict[str, Any], tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    TheWorldProcessor.from_pretrained(wan22.gemma, frame_size=32).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has spatial_compression 8, and the model's config.json 16"):
        TheWorldProcessor.from_pretrained(tmp_path)
    TheWorldProcessor.from_pretrained(wan22.gemma, world_config=model.world_config).save_pretrained(tmp_path)
    loaded, processor = TheWorld.from_pretrained(tmp_path), TheWorldProcessor.from_pretrained(tmp_path)
    assert (processor.spatial_compression, processor.frame_size, processor.max_world_steps) == (16, 32, 4)
    again = processor(text="<start_of_world>Next?", world_frames=make_clip(), return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**again).logits, model(**inputs).logits)


def test_a_processor_for_another_vae_is_named(wan22: SyntheticCheckpoint, model: TheWorld) -> None:
    processor = TheWorldProcessor.from_pretrained(wan22.gemma, frame_size=32)
    inputs = processor(text="<start_of_world>", world_frames=make_clip(), return_tensors="pt")
    with pytest.raises(ValueError, match=r"make 8 world tokens and the prompt holds 32 placeholders .*world_config"):
        model(**inputs)
    with pytest.raises(ValueError, match=r"world_latents must have shape \(batch, 48, .*, got \(1, 16"):
        model.get_world_features(None, None, torch.zeros(1, 16, 2, 2, 2))


def test_it_trains_with_its_latents_on_disk(wan22: SyntheticCheckpoint, data: Path, tmp_path: Path) -> None:
    values = {
        "model": str(wan22.gemma), "cosmos": str(wan22.cosmos), "world": {"frame_size": 32, "max_world_steps": 4},
        "data": {"path": str(data)}, "output_dir": str(tmp_path / "out"), "logging": [],
        "latents_cache": str(tmp_path / "latents"), "stages": [stage(steps=2)],
    }  # fmt: skip
    run(make(values))
    (exported,) = (tmp_path / "out").glob("*/model")
    trained = TheWorld.from_pretrained(exported)
    fresh = load_world(wan22).world_projection.linear.weight
    assert trained.world_projection.linear.weight.shape == (80, 48)
    assert not torch.equal(trained.world_projection.linear.weight, fresh)
    assert list((tmp_path / "latents").glob("*.safetensors"))


def test_the_harness_takes_it(wan22: SyntheticCheckpoint) -> None:
    places = {"checkpoint": str(wan22.gemma), "cosmos": str(wan22.cosmos)}
    checks = list(check_world(Subject(target=CANDIDATE_TARGET, dtype="float32", **places)))
    others = {check.id: check.status for check in checks if check.status is not Status.PASSED}
    assert others == {"world.rollout": Status.SKIPPED}, "it holds a VAE alone"
    config = blueprint_of_checkpoint(**places)
    (ledger, _) = check_params(config, presets=["projection"])
    assert ledger.status is Status.PASSED
    rows = {row["component"]: row["total"] for row in ledger.measurements["components"]}
    assert rows["world_projection"] == 48 * 80 + 80
    assert input_shapes(Cell(world_tokens=196), config)["world_frames"] == (1, 3, 1, 224, 224)


def test_what_predicts_fits_its_latents(wan22: SyntheticCheckpoint, tmp_path: Path) -> None:
    cosmos = Path(shutil.copytree(wan22.cosmos, tmp_path / "cosmos"))
    write_pipeline("tiny", cosmos)
    model = TheWorld.from_pretrained(wan22.gemma, cosmos_model_name_or_path=str(cosmos), dtype=torch.float32)
    asked = RolloutConfig(prompt="a", safety_checker=None, num_inference_steps=2)
    clip = torch.zeros(1, 3, 5, 64, 64)
    made = model.roll_out(clip, num_world_steps=2, rollout=asked).world_latents
    assert made.shape == (1, 48, 4, 4, 4)
    (check,) = check_rollouts(model, str(cosmos), clip[0], seed=0, progress=lambda _: None)
    assert check.status is Status.SKIPPED
    assert "8 pixels a latent cell" in str(check.reason)
