"""What a stage says while it trains, on stderr.

In: a stage, and what is logged. Out: a line at the start, one for each thing that is logged, with what is left, and one
at the end. Trainer's own bar would share its line with an error.
"""

import logging
import sys
import time
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

from theworld.checkpoints.error_text import counted
from theworld.training.config import StageConfig

log = logging.getLogger("theworld.training")


def narrate_start(stage: StageConfig, model: Any, num_samples: int) -> None:
    """Say what a stage trains, and what its levers did to the model."""
    trainable, total, percentage = model.get_trainable_parameters()
    masters = sum(p.numel() for p in model.parameters() if p.requires_grad and p.dtype == torch.float32)
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    log.info(
        "stage %s: %s of %s parameters train (%.2f %%), %s of them in float32, %s, %s, "
        "gradient checkpointing in %d of %d layers, loss %s",
        stage.name,
        f"{trainable:,}",
        f"{total:,}",
        percentage,
        f"{masters:,}",
        counted(num_samples, "sample"),
        stage.precision,
        sum(bool(layer.gradient_checkpointing) for layer in layers),
        len(layers),
        f"in pieces of {stage.chunked_loss} tokens" if stage.chunked_loss else "at once",
    )


class Narrator(TrainerCallback):
    """One line for each thing that is logged, with what is left; at the end, what the optimizer keeps."""

    def __init__(self, stage: StageConfig) -> None:
        self._stage, self._begun, self._first = stage, time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._begun, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if not logs or "loss" not in logs:
            return
        done = state.global_step - self._first
        left = (time.monotonic() - self._begun) / max(done, 1) * (state.max_steps - state.global_step)
        print(
            f"{self._stage.name} {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}  "
            f"gradient {logs['grad_norm']:.3g}  {logs['tokens_per_second']:.0f} tokens/s  "
            f"{logs['clips_per_second']:.1f} clips/s  peak {logs['peak_memory_bytes'] / 1e9:.2f} GB  "
            f"left {left:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    def on_train_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:  # noqa: ARG002
        kept = {id(v): v for held in optimizer.state.values() for v in held.values() if torch.is_tensor(v)}
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
        trains = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        log.info(
            "stage %s: optimizer %s keeps %.1f bytes for each parameter that trains",
            self._stage.name,
            self._stage.optimizer,
            num_bytes / trains,
        )
