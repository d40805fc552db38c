"""What a stage takes of a GPU, beside what `theworld-validate memory predict` says that it will.

In: a config, a stage and its longest batch. Out: a sentence. The harness is another package, which may not be there,
and it traces the model in ways that a training must not see: so it runs as a command, in a process of its own.
"""

import importlib.util
import json
import logging
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld.training.config import StageConfig, TrainingConfig

log = logging.getLogger("theworld.training")
HARNESS = "theworld_validate"
MOST_APART = 0.02  # of the prediction
_OPTIMIZERS = {"adamw": "adamw", "adamw_8bit": "adamw-8bit"}
_TIMEOUT_SECONDS = 300  # less than other processes wait for this one
_MOST_STEPS = 200  # of a run that is predicted
_MARKS = 5  # tokens: the beginning of the text, and two around the picture and the clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was predicted, in words; the bytes are None where nothing was."""

    sentence: str
    peak_bytes: int | None = None


def predict(config: TrainingConfig, stage: StageConfig, model_config: Any, num_tokens: int) -> Prediction:
    """Predict a stage's peak, or say why it is not predicted.

    The harness's rows are a picture, one latent step and text: so much text that they are as long as the longest here.

    Args:
        model_config: a `TheWorldConfig` with a branch.
        num_tokens: of the longest row, its pictures and clips among them.
    """
    if (reason := _not_predicted(stage, model_config)) is not None:
        return Prediction(sentence=f"memory: {reason}")
    num_text_tokens = _text_tokens(model_config, num_tokens)
    asked = ("--text-tokens", str(num_text_tokens), "--accumulation", str(stage.gradient_accumulation_steps))
    answer = _ask(_command(config, stage, model_config, *asked, "--jobs", "1"), "cells")
    if isinstance(answer, str):
        return Prediction(sentence=f"memory: {answer}")
    peak = int(answer["peak_allocated_bytes"])
    sentence = (
        f"memory: about {peak / 1e9:.2f} GB allocated at the peak, by theworld-validate memory predict, for "
        f"{stage.batch_size} x ({num_text_tokens} tokens of text, a picture and one latent step)"
    )
    return Prediction(sentence=sentence, peak_bytes=peak)


def predict_run(config: TrainingConfig, stage: StageConfig, model_config: Any, lengths: Sequence[int]) -> str | None:
    """Predict what steps of these lengths hold, one after the other, or say why it is not predicted.

    Args:
        model_config: a `TheWorldConfig` with a branch.
        lengths: tokens of rows that follow each other; a step's are as long as the longest of its batch.

    Returns:
        None where all steps are equally long, or nothing can be predicted and `predict` has said why.
    """
    batches = [lengths[i : i + stage.batch_size] for i in range(0, len(lengths), stage.batch_size)]
    steps = [_text_tokens(model_config, max(batch)) for batch in batches]
    if len(set(steps)) < 2 or _not_predicted(stage, model_config) is not None:
        return None
    if stage.gradient_accumulation_steps > 1:
        return "memory of a run: not predicted with gradient accumulation"
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "lengths.txt")
        file.write_text("".join(f"{length}\n" for length in steps), encoding="utf-8")
        num_steps = min(stage.steps or len(steps), _MOST_STEPS)
        answer = _ask(
            _command(config, stage, model_config, "--lengths", str(file), "--steps", str(num_steps), "--jobs", "2"),
            "runs",
        )
    if isinstance(answer, str):
        return f"memory of a run: {answer}"
    reserved, least = (int(answer[name]) / 1e9 for name in ("peak_reserved_bytes", "least_bytes"))
    return (
        f"memory of a run: {num_steps} steps of {min(steps)} to {max(steps)} tokens of text reserve about "
        f"{reserved:.2f} GB, and complete in {least:.2f} GB; memory predict --lengths says what would take less"
    )


def _not_predicted(stage: StageConfig, model_config: Any) -> str | None:
    world_tokens = model_config.world_config.tokens_per_step()
    if importlib.util.find_spec(HARNESS) is None:
        return "not predicted, since theworld-validate is not installed"
    if stage.precision == "float32":
        return "not predicted for float32; set `precision: mixed` or `bfloat16`"
    if not isinstance(stage.freeze, str):
        return "not predicted for a list of components; it is for presets"
    if math.isqrt(world_tokens) ** 2 != world_tokens or stage.optimizer not in _OPTIMIZERS:
        return "not predicted for this frame size or optimizer"
    return None


def _text_tokens(model_config: Any, num_tokens: int) -> int:
    """Tokens of text of a row that is so long with one picture and one latent step."""
    others = model_config.world_config.tokens_per_step() + model_config.mm_tokens_per_image + _MARKS
    return max(num_tokens - others, 1)


def _command(config: TrainingConfig, stage: StageConfig, model_config: Any, *more: str) -> list[str]:
    assert isinstance(stage.freeze, str)
    options = {
        "--model": config.model,
        **({"--cosmos": config.cosmos} if config.cosmos is not None else {}),
        "--preset": stage.freeze,
        "--precision": stage.precision,
        "--checkpointing": "on" if stage.gradient_checkpointing else "off",
        "--chunked-loss": "on" if stage.chunked_loss else "off",
        "--optimizer": _OPTIMIZERS[stage.optimizer],
        "--batch": str(stage.batch_size),
        "--world-tokens": str(model_config.world_config.tokens_per_step()),
    }
    words = [word for option in options.items() for word in option]
    return [sys.executable, "-m", HARNESS, "memory", "predict", "--json", "--quiet", *words, *more]


def _ask(command: list[str], table: str) -> dict[str, Any] | str:
    """The one row of a table of the answer; in words, that it failed."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        row = json.loads(ended.stdout)["checks"][0]["measurements"][table][0]
        if not isinstance(row["peak_allocated_bytes"], int):
            raise TypeError("no peak")
        return row
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        return f"the prediction failed ({type(error).__name__}); run: {' '.join(command[1:])}"


def compare(stage: StageConfig, peak_bytes: int, predicted: Prediction) -> None:
    """Log a stage's measured peak beside the predicted one, as a warning where they part by over 2 %."""
    apart = None if predicted.peak_bytes is None else peak_bytes / predicted.peak_bytes - 1
    log.log(
        logging.INFO if apart is None or abs(apart) <= MOST_APART else logging.WARNING,
        "stage %s: %.2f GB allocated at the peak%s; %s",
        stage.name,
        peak_bytes / 1e9,
        "" if apart is None else f", {apart:+.2%} of what was predicted",
        predicted.sentence,
    )
