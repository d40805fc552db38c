"""Eight predicted steps on the tiny pipeline, what predicts loaded before: `pytest benchmarks/test_rollout.py`.

Goal: five seconds on two cores, with the default number of denoising steps and guidance.
"""

from pathlib import Path
from typing import Any

import torch

from theworld import RolloutConfig, TheWorld
from theworld.synthetic import write_checkpoint

GOAL_SECONDS = 5.0
NUM_STEPS = 8


def test_eight_steps(benchmark: Any, tmp_path: Path) -> None:
    tiny = write_checkpoint("tiny", tmp_path / "tiny", pipeline="predict2")
    model = TheWorld.from_pretrained(tiny.gemma, cosmos_model_name_or_path=str(tiny.cosmos), dtype=torch.float32)
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    rollout = RolloutConfig(prompt="a ball rolls", safety_checker=None)

    def roll() -> torch.Tensor:
        return model.roll_out(world_latents=latents, num_world_steps=NUM_STEPS, rollout=rollout).world_latents

    made = benchmark.pedantic(roll, rounds=5, warmup_rounds=1)
    assert made.shape == (1, 16, 2 + NUM_STEPS, 8, 8)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info.update(seconds=seconds, goal_seconds=GOAL_SECONDS)
    print(f"\n{NUM_STEPS} steps, {rollout.num_inference_steps} of denoising: {seconds:.2f} s (goal {GOAL_SECONDS})")
