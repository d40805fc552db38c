"""Short trainings of the tiny model by the product's own trainer, for the audit of training.

In: an empty folder. Out: configs of runs that differ in one thing, and what each run left: weights, gradients, losses.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    import torch

    from theworld.training.config import TrainingConfig

WHOLE_STEPS = 3  # after the first, one step is of the weights that were resumed, the next of the optimizer's state
RATES = {"language_model": 1e-4, "world_projection": 1e-2, "temporal_embedding": 1e-3}
_NUM_SAMPLES, _NUM_FRAMES, _SIDE = 6, 5, 32
_ANSWERS = ("left", "right, and then up")  # of different lengths: a mean of means is not the mean
_FIRST_MOMENT = 0.1  # of the gradient, that AdamW keeps after its first step: 1 - beta1


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a run left on the disk.

    Args:
        folder: of its only stage.
        losses: step by step.
    """

    folder: Path
    losses: tuple[float, ...]

    @property
    def export(self) -> Path:
        """The exported model."""
        return self.folder / "model"

    def weights(self, step: int) -> "Mapping[str, torch.Tensor]":
        """What trains, after a step."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"checkpoint-{step:08d}" / "weights.safetensors")

    def first_gradients(self) -> "Mapping[str, torch.Tensor]":
        """The gradients of the first step, as the optimizer was given them."""
        from safetensors.torch import load_file

        state = load_file(self.folder / "checkpoint-00000001" / "optimizer.safetensors")
        suffix = "|exp_avg"
        return {name.removesuffix(suffix): t / _FIRST_MOMENT for name, t in state.items() if name.endswith(suffix)}


class Runs:
    """Runs in one folder, on the same samples.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _write_samples(folder)

    @cached_property
    def whole(self) -> Left:
        """A run that nothing interrupts; it is trained once."""
        return train(self.config("whole", steps=WHOLE_STEPS))

    def config(self, name: str, *, steps: int, **stage: Any) -> "TrainingConfig":
        """The config of a run: all but the vision tower and the VAE trains, in float32, with a checkpoint a step."""
        from theworld.synthetic import cached_checkpoint
        from theworld.training.config import StageConfig, TrainingConfig

        tiny = cached_checkpoint("tiny")
        values: dict[str, Any] = {"freeze": "language", "learning_rate": 1e-3, "batch_size": 2, "max_grad_norm": None}
        return TrainingConfig.model_validate(
            {
                "model": str(tiny.gemma),
                "cosmos": str(tiny.cosmos),
                "world": {"frame_size": _SIDE, "max_world_steps": 2},
                "data": {"path": str(self._folder / "samples.jsonl")},
                "output_dir": str(self._folder / name),
                "logging": (),
                "log_every_steps": 1,
                "save_every_steps": 1,
                "keep_checkpoints": steps,
                "stages": (StageConfig.model_validate({"name": "tiny", "steps": steps, **values, **stage}),),
            }
        )


def _write_samples(folder: Path) -> None:
    """Write questions on clips of noise."""
    import numpy as np

    draw, lines = np.random.default_rng(0), []
    for i in range(_NUM_SAMPLES):
        np.save(folder / f"{i}.npy", draw.integers(0, 256, (_NUM_FRAMES, _SIDE, _SIDE, 3)).astype(np.uint8))
        asked = [{"type": "world", "path": f"{i}.npy"}, {"type": "text", "text": "which?"}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": _ANSWERS[i % 2]}]
        lines.append(json.dumps({"messages": messages}))
    (folder / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")


def train(config: "TrainingConfig") -> Left:
    """Run a config, or what is missing of it."""
    from theworld.training.run import run
    from theworld.training.stages import stage_folder

    run(config)
    folder = stage_folder(config, 0)
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    losses = tuple(float(entry["loss"]) for entry in state["log_history"] if "loss" in entry)
    return Left(folder=folder, losses=losses)


def initial_weights(config: "TrainingConfig") -> "Mapping[str, torch.Tensor]":
    """What a run starts from, by the names of its parameters."""
    from transformers import set_seed

    from theworld.training.stages import load_model

    set_seed(config.seed)
    return {name: parameter.detach() for name, parameter in load_model(config, 0).named_parameters()}


@contextlib.contextmanager
def sharded() -> Iterator[Callable[[], int]]:
    """Have runs shard with FSDP2 over one process: nothing is divided, and every gradient goes through the reduction.

    Yields:
        What says how many modules were sharded so far.
    """
    import torch.distributed as dist
    from torch.distributed import fsdp

    asked = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with (
            mock.patch.dict(os.environ, asked),
            mock.patch.object(fsdp, "fully_shard", wraps=fsdp.fully_shard) as shard,
        ):
            yield lambda: shard.call_count
    finally:
        dist.destroy_process_group()
