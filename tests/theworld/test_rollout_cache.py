"""The cache of rollouts: read by content, without loading what predicts, and never for another question."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.theworld.test_world_rollout import ASKED
from theworld.rollout_config import RolloutConfig
from theworld.world_rollout import CosmosWorldModel

OBSERVED = torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def predict(cosmos: Path, config: RolloutConfig, observed: torch.Tensor = OBSERVED, n: int = 1) -> tuple[Any, bool]:
    """A rollout by a fresh world model, and whether it had to be loaded."""
    statistics = {"z_dim": 16, "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    world_model = CosmosWorldModel(str(cosmos), statistics, torch.float32)
    return world_model.predict(observed, n, config), world_model._pipeline is not None


def test_the_same_question_is_read_and_nothing_is_loaded(whole_cosmos: Path, tmp_path: Path) -> None:
    config = replace(ASKED, cache_dir=str(tmp_path / "cache"))
    first, was_loaded = predict(whole_cosmos, config)
    again, was_loaded_again = predict(whole_cosmos, config)
    assert (was_loaded, was_loaded_again) == (True, False)
    assert torch.equal(first, again)
    assert torch.equal(first, predict(whole_cosmos, ASKED)[0])
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"num_inference_steps": 2},
        {"guidance_scale": 1.0},
        {"prompt": "a cube falls"},
        {"negative_prompt": "bad"},
        {"fps": 16},
    ],
)
def test_another_question_is_not_answered_from_the_cache(
    whole_cosmos: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(ASKED, cache_dir=str(tmp_path))
    first, _ = predict(whole_cosmos, config)
    other, was_loaded = predict(whole_cosmos, replace(config, **changes))
    assert was_loaded
    assert not torch.equal(first, other)


def _other_transformer(folder: Path) -> None:
    from theworld.synthetic_pipeline import write_pipeline

    for name in ("transformer", "text_encoder", "scheduler", "tokenizer"):
        shutil.rmtree(folder / name)
    write_pipeline("tiny", folder, seed=1)


def _other_schedule(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text().replace('"shift": 1.0', '"shift": 2.0'))


@pytest.mark.parametrize("change", [_other_transformer, _other_schedule])
def test_other_files_are_another_question(whole_cosmos: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    config = replace(ASKED, cache_dir=str(tmp_path / "cache"))
    predict(whole_cosmos, config)
    folder = Path(shutil.copytree(whole_cosmos, tmp_path / "cosmos"))
    change(folder)
    assert predict(folder, config)[1]


def test_other_clips_and_lengths_are_other_questions(whole_cosmos: Path, tmp_path: Path) -> None:
    config = replace(ASKED, cache_dir=str(tmp_path))
    predict(whole_cosmos, config)
    assert predict(whole_cosmos, config, OBSERVED + 1e-3)[1]
    assert predict(whole_cosmos, config, n=2)[1]


def test_a_broken_file_is_rolled_out_again(whole_cosmos: Path, tmp_path: Path) -> None:
    config = replace(ASKED, cache_dir=str(tmp_path))
    first, _ = predict(whole_cosmos, config)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"broken")
    again, was_loaded = predict(whole_cosmos, config)
    assert was_loaded
    assert torch.equal(first, again)
    assert not predict(whole_cosmos, config)[1], "and it was written again"
