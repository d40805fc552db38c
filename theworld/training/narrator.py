"""What a stage says while it trains, on stderr.

In: a stage, and what is logged. Out: a line at the start, and one for each thing that is logged, with what is left.
"""

import logging
import sys
import time
from typing import Any

from transformers import TrainerCallback

from theworld.training.config import StageConfig

log = logging.getLogger("theworld.training")


def narrate_start(stage: StageConfig, model: Any, num_samples: int) -> None:
    """Say what a stage trains, and how."""
    trainable, total, percentage = model.get_trainable_parameters()
    log.info(
        "stage %s: %s of %s parameters train (%.2f %%), %d samples, %s, gradient checkpointing %s, loss %s",
        stage.name,
        f"{trainable:,}",
        f"{total:,}",
        percentage,
        num_samples,
        stage.precision,
        "on" if stage.gradient_checkpointing else "off",
        f"in pieces of {stage.chunked_loss} tokens" if stage.chunked_loss else "at once",
    )


class Narrator(TrainerCallback):
    """One line for each thing that is logged, with what is left."""

    def __init__(self, name: str) -> None:
        self._name, self._begun, self._first = name, time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._begun, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if not logs or "loss" not in logs:
            return
        done = state.global_step - self._first
        left = (time.monotonic() - self._begun) / max(done, 1) * (state.max_steps - state.global_step)
        print(
            f"{self._name} {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}  "
            f"gradient {logs['grad_norm']:.3g}  {logs['tokens_per_second']:.0f} tokens/s  "
            f"{logs['clips_per_second']:.1f} clips/s  peak {logs['peak_memory_bytes'] / 1e9:.2f} GB  "
            f"left {left:.0f} s",
            file=sys.stderr,
            flush=True,
        )
