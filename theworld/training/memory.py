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
from dataclasses import dataclass
from typing import Any

from theworld.training.config import StageConfig, TrainingConfig

log = logging.getLogger("theworld.training")
HARNESS = "theworld_validate"
MOST_APART = 0.02  # of the prediction
_OPTIMIZERS = {"adamw": "adamw", "adamw_8bit": "adamw-8bit"}
_TIMEOUT_SECONDS = 300  # less than other processes wait for this one
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
    world_tokens = model_config.world_config.tokens_per_step()
    num_text_tokens = max(num_tokens - world_tokens - model_config.mm_tokens_per_image - _MARKS, 1)
    if importlib.util.find_spec(HARNESS) is None:
        return Prediction(sentence="memory: not predicted, since theworld-validate is not installed")
    if stage.precision == "float32" or not isinstance(stage.freeze, str):
        return Prediction(sentence="memory: not predicted; it is for bfloat16 and mixed precision, and for presets")
    if math.isqrt(world_tokens) ** 2 != world_tokens or stage.optimizer not in _OPTIMIZERS:
        return Prediction(sentence="memory: not predicted for this frame size or optimizer")
    options = {
        "--model": config.model,
        **({"--cosmos": config.cosmos} if config.cosmos is not None else {}),
        "--preset": stage.freeze,
        "--precision": stage.precision,
        "--checkpointing": "on" if stage.gradient_checkpointing else "off",
        "--chunked-loss": "on" if stage.chunked_loss else "off",
        "--optimizer": _OPTIMIZERS[stage.optimizer],
        "--batch": str(stage.batch_size),
        "--world-tokens": str(world_tokens),
        "--text-tokens": str(num_text_tokens),
        "--jobs": "1",
    }
    words = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", HARNESS, "memory", "predict", "--json", "--quiet", *words]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        cell = json.loads(ended.stdout)["checks"][0]["measurements"]["cells"][0]
        peak = int(cell["peak_allocated_bytes"])
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        failed = f"memory: the prediction failed ({type(error).__name__}); run: {' '.join(command[1:])}"
        return Prediction(sentence=failed)
    sentence = (
        f"memory: about {peak / 1e9:.2f} GB allocated at the peak, by theworld-validate memory predict, for "
        f"{stage.batch_size} x ({num_text_tokens} tokens of text, a picture and one latent step)"
    )
    return Prediction(sentence=sentence, peak_bytes=peak)


def compare(stage: StageConfig, peak_bytes: int, predicted: Prediction) -> None:
    """Log a stage's measured peak beside the predicted one, as a warning where they part by over 2 %."""
    apart = None if predicted.peak_bytes is None else peak_bytes / predicted.peak_bytes - 1
    log.log(
        logging.INFO if apart is None or abs(apart) <= MOST_APART else logging.WARNING,
        "stage %s: %.2f GB allocated at the peak%s; %s",
        stage.name,
        peak_bytes / 1e9,
        "" if apart is None else f", {apart:+.1%} of what was predicted",
        predicted.sentence,
    )
