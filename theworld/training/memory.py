"""What a stage will take of a GPU, asked of `theworld-validate memory predict` before anything trains.

In: a config, a stage and its longest sample. Out: a sentence. The harness is another package, which may not be there,
and it traces the model in ways that a training must not see: so it runs as a command, in a process of its own.
"""

import importlib.util
import json
import math
import subprocess
import sys

from theworld.training.config import StageConfig, TrainingConfig

HARNESS = "theworld_validate"
_OPTIMIZERS = {"adamw": "adamw", "adamw_8bit": "adamw-8bit"}
_TIMEOUT_SECONDS = 600


def predict(config: TrainingConfig, stage: StageConfig, *, num_tokens: int, tokens_a_step: int) -> str:
    """Predict a stage's peak, or say why it is not predicted.

    Args:
        num_tokens: of the longest sample, its pictures and clips among them.
        tokens_a_step: world tokens of one latent step, a square number.
    """
    if importlib.util.find_spec(HARNESS) is None:
        return "memory: not predicted, since theworld-validate is not installed"
    if stage.precision == "float32" or not isinstance(stage.freeze, str):
        return "memory: not predicted; it is for bfloat16 and mixed precision, and for presets"
    if math.isqrt(tokens_a_step) ** 2 != tokens_a_step or stage.optimizer not in _OPTIMIZERS:
        return "memory: not predicted for this frame size or optimizer"
    options = {
        "--model": config.model,
        **({"--cosmos": config.cosmos} if config.cosmos is not None else {}),
        "--preset": stage.freeze,
        "--precision": stage.precision,
        "--checkpointing": "on" if stage.gradient_checkpointing else "off",
        "--chunked-loss": "on" if stage.chunked_loss else "off",
        "--optimizer": _OPTIMIZERS[stage.optimizer],
        "--batch": str(stage.batch_size),
        "--world-tokens": str(tokens_a_step),
        "--text-tokens": str(num_tokens),
        "--jobs": "1",
    }
    words = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", HARNESS, "memory", "predict", "--json", "--quiet", *words]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        cell = json.loads(ended.stdout)["checks"][0]["measurements"]["cells"][0]
        peak = int(cell["peak_allocated_bytes"])
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        return f"memory: the prediction failed ({type(error).__name__}); run: {' '.join(command[1:])}"
    return (
        f"memory: about {peak / 1e9:.2f} GB allocated at the peak, by theworld-validate memory predict, for "
        f"{stage.batch_size} x ({num_tokens} tokens of text, a picture and one latent step)"
    )
