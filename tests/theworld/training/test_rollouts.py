"""Training on what Cosmos predicts: the model is asked for it, and the second run reads it."""

from pathlib import Path
from typing import Any

import pytest

from tests.theworld.training.conftest import make, stage
from tests.theworld.training.test_latents_cache import losses
from theworld.training.run import run
from theworld.world_rollout import CosmosWorldModel


def test_a_run_looks_ahead_once_and_the_next_reads_what_was_predicted(
    values: dict[str, Any], whole_cosmos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    original = CosmosWorldModel._run
    monkeypatch.setattr(CosmosWorldModel, "_run", lambda self, *a: runs.append(a[1]) or original(self, *a))
    rollout = {
        "num_world_steps": 2,
        "prompt": "a",
        "safety_checker": "none",
        "num_inference_steps": 2,
        "cache": str(tmp_path / "predicted"),
    }
    asked = {"cosmos": str(whole_cosmos), "stages": [stage(steps=2)]}
    first = make(values, **asked, rollout=rollout, output_dir=str(tmp_path / "first"))
    second = make(values, **asked, rollout=rollout, output_dir=str(tmp_path / "second"))
    run(first)
    assert runs
    assert set(runs) == {2}
    num_runs = len(runs)
    run(second)
    assert len(runs) == num_runs == len(list((tmp_path / "predicted").iterdir()))
    assert losses(first) == losses(second)
    without = make(values, **asked, output_dir=str(tmp_path / "without"))
    run(without)
    assert losses(without) != losses(first)
