"""Latents from disk are the VAE's to the bit; their names know the VAE; several processes may write."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world, make_clip
from tests.theworld.training.conftest import make, stage
from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint
from theworld.training.latents_cache import LatentsCache
from theworld.training.run import run
from theworld.training.stages import make_cache, stage_folder


@pytest.fixture
def batch(processor: TheWorldProcessor) -> dict[str, Any]:
    """Three rows: two clips of different lengths, one clip, none."""
    texts = ["<start_of_world>a<start_of_world>b", "<start_of_world>c", "d"]
    clips = [[make_clip(seed=1), make_clip(1, seed=2)], make_clip(9, seed=3), None]
    return dict(processor(text=texts, world_frames=clips, padding=True, padding_side="right", return_tensors="pt"))


def logits(model: TheWorld, batch: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).logits


def test_latents_in_place_of_frames_give_the_same_bits(shared_world: TheWorld, batch: dict[str, Any]) -> None:
    frames = batch.pop("world_frames")
    latents = shared_world.world_encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    expected = logits(shared_world, {**batch, "world_frames": frames})
    assert torch.equal(logits(shared_world, {**batch, "world_latents": latents}), expected)
    assert not torch.equal(logits(shared_world, {**batch, "world_latents": latents * 2}), expected)
    with pytest.raises(ValueError, match="give either world_frames or world_latents"):
        shared_world(**batch, world_frames=frames, world_latents=latents)
    inner = shared_world.model(**batch, world_latents=latents).last_hidden_state
    assert torch.equal(shared_world.lm_head(inner), expected)


def test_latents_without_a_branch_are_an_error(tiny: SyntheticCheckpoint) -> None:
    gemma = TheWorld.from_pretrained(tiny.gemma, enable_world=False)
    with pytest.raises(ValueError, match="the world branch is off"):
        gemma(input_ids=torch.ones(1, 4, dtype=torch.long), world_latents=torch.zeros(1, 16, 1, 4, 4))


def test_the_cache_gives_what_the_vae_gives_and_the_second_time_does_not_call_it(
    shared_world: TheWorld, batch: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LatentsCache(tmp_path, shared_world.world_encoder, is_shared=False)
    first = cache(batch)
    assert (cache.num_encoded, cache.num_read) == (3, 0)
    assert first["world_latents"].shape[:4] == (3, 2, 16, 3)
    assert "world_frames" not in first
    alone = shared_world.world_encoder(batch["world_frames"][0, :1, :, :5])[0]
    assert torch.equal(first["world_latents"][0, 0, :, :2], alone)
    torch.testing.assert_close(logits(shared_world, first), logits(shared_world, batch), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(type(shared_world.world_encoder), "forward", None)
    second = LatentsCache(tmp_path, shared_world.world_encoder, is_shared=False)
    assert torch.equal(second(batch)["world_latents"], first["world_latents"])
    assert (second.num_encoded, second.num_read) == (0, 3)
    assert not list(tmp_path.glob("*.writing"))


def test_another_vae_dtype_or_clip_is_another_file(
    shared_world: TheWorld, tiny: SyntheticCheckpoint, batch: dict[str, Any], tmp_path: Path
) -> None:
    def encoded(model: TheWorld, given: dict[str, Any]) -> int:
        cache = LatentsCache(tmp_path, model.world_encoder, is_shared=False)
        cache(given)
        return cache.num_encoded

    assert encoded(shared_world, batch) == 3
    assert encoded(shared_world, batch) == 0
    changed = batch["world_frames"].clone()
    changed[0, 0, 0, 0, 0, 0] *= 0.5
    assert encoded(shared_world, {**batch, "world_frames": changed}) == 1
    assert encoded(load_world(tiny, dtype=torch.bfloat16), batch) == 3
    other = load_world(tiny)
    with torch.no_grad():
        other.world_encoder.vae.encoder.conv_in.bias[0] += 1
    assert encoded(other, batch) == 3
    other = load_world(tiny)
    other.world_encoder.vae.register_to_config(latents_mean=[1.0] * 16)
    assert encoded(other, batch) == 3


def test_a_file_that_was_cut_is_written_again(shared_world: TheWorld, batch: dict[str, Any], tmp_path: Path) -> None:
    first = LatentsCache(tmp_path, shared_world.world_encoder, is_shared=False)(batch)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    again = LatentsCache(tmp_path, shared_world.world_encoder, is_shared=False)
    assert torch.equal(again(batch)["world_latents"], first["world_latents"])
    assert again.num_encoded == 3


def _write(model_folder: str, folder: str, start: Any) -> None:
    torch.set_num_threads(1)
    model = TheWorld.from_pretrained(model_folder)
    cache = LatentsCache(Path(folder), model.world_encoder, is_shared=False)
    start.wait()
    for _ in range(3):
        cache({"world_frames": torch.stack([make_clip(seed=i) for i in range(4)])})


def test_two_processes_write_one_cache(shared_world: TheWorld, tmp_path: Path) -> None:
    shared_world.save_pretrained(tmp_path / "model")
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(2)
    folder = tmp_path / "cache"
    both = [context.Process(target=_write, args=(str(tmp_path / "model"), str(folder), barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(folder.iterdir())) == 4
    clips = torch.stack([make_clip(seed=i) for i in range(4)])
    cache = LatentsCache(folder, shared_world.world_encoder, is_shared=False)
    found = cache({"world_frames": clips})["world_latents"]
    assert cache.num_encoded == 0
    assert all(torch.equal(found[i], shared_world.world_encoder(clips[i : i + 1])[0]) for i in range(4))


def losses(config: Any) -> list[float]:
    state = json.loads((stage_folder(config, 0) / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_a_run_with_a_full_cache_has_the_losses_of_the_one_that_filled_it(
    values: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "theworld.training")
    cached = {"latents_cache": str(tmp_path / "cache"), "stages": [stage(steps=8)]}
    first = make(values, **cached, output_dir=str(tmp_path / "first"))
    second = make(values, **cached, output_dir=str(tmp_path / "second"))
    run(first)
    run(second)
    assert losses(first) == losses(second)
    assert "8 clips encoded, 3 read from the cache" in caplog.text
    assert "0 clips encoded, 11 read from the cache" in caplog.text


def test_a_stage_that_trains_the_vae_does_not_use_it(
    values: dict[str, Any], shared_world: TheWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = str(tmp_path / "cache")
    config = make(values, latents_cache=folder, stages=[stage(freeze="full"), stage("second")])
    assert make_cache(config, 0, shared_world, is_shared=False) is None
    assert "trains the VAE, so its latents change: latents_cache is not used" in caplog.text
    assert make_cache(config, 1, shared_world, is_shared=False) is not None
