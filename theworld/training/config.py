"""The config of a training run.

In: a YAML or JSON file. Out: a frozen `TrainingConfig`, or one line that names the file, the field and the fix.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from theworld.checkpoints.bounded_files import MAX_CONFIG_BYTES, check_readable_path, read_text
from theworld.checkpoints.error_text import MAX_LINE, did_you_mean, one_line, summary
from theworld.clips.rules import DEFAULT_FPS
from theworld.components import COMPONENT_NAMES
from theworld.freezing import PRESETS, FreezeConfig
from theworld.rollout_config import RolloutConfig
from theworld.training.config_text import parse_config
from theworld.world_sizes import MAX_FRAME_SIZE, MAX_WORLD_STEPS

HINTS = {
    "use_gradient_checkpointing": "the key is gradient_checkpointing, in a stage",
    "num_epochs": "the key is epochs, in a stage",
    "num_train_epochs": "the key is epochs, in a stage",
    "lr": "the key is learning_rate, in a stage",
}
MAX_COUNT = 2**31 - 1  # of steps, samples or tokens: what torch and its loaders count in
_MAX_SEED = 2**32 - 1  # numpy's
_MAX_RATE = 1e9  # AdamW multiplies a rate by ten, and by the decay: float32 holds 3e38
_MAX_FPS = 1000


class ConfigError(ValueError):
    """A config, a data file or an output folder that cannot be used; one line."""


class FailedError(RuntimeError):
    """A training that was begun and cannot go on; one line."""


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4, without a dot, as a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _is_a_path(value: str) -> str:
    """A path or a name that a file system can have."""
    if not value or "\0" in value:
        raise ValueError("empty; name one" if not value else "holds a null character; give another")
    return value


Rate = Annotated[float, BeforeValidator(_number), Field(gt=0, le=_MAX_RATE, allow_inf_nan=False, strict=True)]
_FORMS = ("as a number", "by component", "as a name", "as names")  # of a value that may be written in two ways
Rates = Annotated[
    Annotated[Rate, Tag("as a number")] | Annotated[dict[str, Rate], Tag("by component")],
    Discriminator(lambda value: "by component" if isinstance(value, dict) else "as a number"),
]
Names = Annotated[
    Annotated[str, Tag("as a name")] | Annotated[tuple[str, ...], Tag("as names")],
    Discriminator(lambda value: "as names" if isinstance(value, (list, tuple)) else "as a name"),
]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]
NotNegative = Annotated[int, Field(ge=0, le=MAX_COUNT, strict=True)]
Seed = Annotated[int, Field(ge=0, le=_MAX_SEED, strict=True)]
PathText = Annotated[str, AfterValidator(_is_a_path)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorldOptions(_Strict):
    """Settings of a new world branch; left out, a checkpoint's own or the defaults hold."""

    frame_size: Annotated[Positive, Field(le=MAX_FRAME_SIZE)] | None = None
    max_world_steps: Annotated[Positive, Field(le=MAX_WORLD_STEPS)] | None = None


class RolloutOptions(_Strict):
    """What Cosmos predicts after each clip; the fields of `theworld.RolloutConfig`.

    Args:
        safety_checker: "cosmos_guardrail", or "none" under your own responsibility.
        cache: a folder in which predicted latents are kept, so that each clip is looked ahead from once.
    """

    num_world_steps: Positive
    prompt: str
    safety_checker: Literal["cosmos_guardrail", "none"]
    negative_prompt: str | None = None
    num_inference_steps: Positive = 35
    guidance_scale: Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False, strict=True)] = 7.0
    fps: Positive | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] = 0
    offload: Annotated[bool, Field(strict=True)] = False
    cache: PathText | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "RolloutOptions":
        self.to_config()  # refuses what is out of its ranges
        return self

    def to_config(self) -> RolloutConfig:
        """What the model is asked."""
        values = self.model_dump(exclude={"num_world_steps", "safety_checker", "cache"})
        checker = None if self.safety_checker == "none" else self.safety_checker
        return RolloutConfig(**values, safety_checker=checker, cache_dir=self.cache)


class DataConfig(_Strict):
    """Where the samples are.

    Args:
        path: a JSONL file, or a folder that `datasets` saved.
        files: the folder that the paths in samples start from; the one that `path` lies in by default.
        max_broken_samples: how many different samples may be skipped before the run ends.
        fps, resize, length: how clips are made ready: see `theworld.clips.rules.ClipRules`.
        group_size: so many samples that follow each other in the data stay together, in their order, when it is
            shuffled; the two of a minimal pair, for one.
    """

    path: PathText
    files: PathText | None = None
    max_broken_samples: NotNegative = 10
    fps: Annotated[Rate, Field(le=_MAX_FPS)] = DEFAULT_FPS
    resize: Literal["crop", "pad", "squash"] = "crop"
    length: Literal["pad", "drop"] = "pad"
    group_size: Positive = 1


class StageConfig(_Strict):
    """One stage: what trains, for how long, and how. Either `steps` or `epochs` is given.

    Args:
        freeze: a preset's name, or the names of the components that train.
        learning_rate: one for all, or one for each component that trains.
        precision: "float32"; "bfloat16" for weights too; "mixed" for bfloat16 with float32 weights where they train.
        batch_size: samples a process and step.
        max_grad_norm: None does not clip.
        chunked_loss: tokens a piece of the loss; None computes it at once.
    """

    name: Name
    freeze: Names = "projection"
    steps: Positive | None = None
    epochs: Rate | None = None
    learning_rate: Rates
    warmup_steps: NotNegative = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    precision: Literal["float32", "bfloat16", "mixed"] = "float32"
    batch_size: Positive = 1
    gradient_accumulation_steps: Positive = 1
    max_grad_norm: Rate | None = 1.0
    weight_decay: Annotated[float, BeforeValidator(_number), Field(ge=0, le=_MAX_RATE, strict=True)] = 0.0
    gradient_checkpointing: Annotated[bool, Field(strict=True)] = False
    chunked_loss: Positive | None = None
    optimizer: Literal["adamw", "adamw_8bit", "adamw_torchao_8bit"] = "adamw"

    @field_validator("freeze")
    @classmethod
    def _is_known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (value,) if isinstance(value, str) else value
        known = tuple(PRESETS) if isinstance(value, str) else COMPONENT_NAMES
        for name in names:
            if name not in known:
                raise ValueError(f"{name!r} is none of {', '.join(known)}{did_you_mean(name, known)}")
        if not names:
            raise ValueError("no component trains; name one")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "StageConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if isinstance(self.learning_rate, dict):
            trains = set(self.freeze_config.trainable)
            for name in self.learning_rate:
                if name not in trains:
                    why = "is frozen in this stage" if name in COMPONENT_NAMES else "is no component"
                    raise ValueError(f"learning_rate.{name} {why}{did_you_mean(name, sorted(trains))}")
            for name in self.freeze_config.trainable:
                if name not in self.learning_rate:
                    raise ValueError(f"learning_rate has none for {name}, which trains in this stage")
        return self

    @property
    def freeze_config(self) -> FreezeConfig:
        """The components that train."""
        return PRESETS[self.freeze] if isinstance(self.freeze, str) else FreezeConfig(trainable=self.freeze)

    def rate_of(self, component: str) -> float:
        """The learning rate that was asked for a component that trains."""
        return self.learning_rate[component] if isinstance(self.learning_rate, dict) else self.learning_rate


class TrainingConfig(_Strict):
    """A whole run.

    Args:
        model: a Gemma 3, TheWorld or trainable-only checkpoint: a folder or a hub id.
        cosmos: the Cosmos repository, where the model has no branch of its own.
        stages: one after another; each starts from what the one before exported.
        save: what a stage exports: the whole model, or what trains beside the name of its base.
        logging: names that Accelerate knows ("tensorboard", "wandb", ...); None is TensorBoard where it is installed.
        latents_cache: a folder in which the VAE's latents are kept, so that each clip is encoded once.
        rollout: steps that Cosmos predicts after each clip, which the model sees too; none by default.
    """

    model: PathText
    cosmos: PathText | None = None
    world: WorldOptions = WorldOptions()
    attention: str | None = None
    data: DataConfig
    output_dir: PathText
    seed: Seed = 0
    stages: tuple[StageConfig, ...]
    save_every_steps: Positive | None = None
    keep_checkpoints: Positive = 2
    save: Literal["whole", "trainable"] = "whole"
    log_every_steps: Positive = 10
    logging: tuple[str, ...] | None = None
    latents_cache: PathText | None = None
    rollout: RolloutOptions | None = None

    @field_validator("stages")
    @classmethod
    def _names_differ(cls, stages: tuple[StageConfig, ...]) -> tuple[StageConfig, ...]:
        names = [stage.name for stage in stages]
        if not names:
            raise ValueError("there is no stage; write one")
        if len(set(names)) != len(names):
            raise ValueError("two stages have one name")
        return stages


def read_config(path: Path) -> TrainingConfig:
    """Read a config; the suffix decides between JSON and YAML.

    Raises:
        ConfigError: one line that names the file, the field, and the fix.
    """
    import yaml

    try:
        check_readable_path(path)
        text = read_text(path, max_bytes=MAX_CONFIG_BYTES)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        values = parse_config(text, is_json=path.suffix == ".json")
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{one_line(path)}: cannot be read: {summary(error)}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{one_line(path)}: holds no mapping of keys to values")
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{one_line(path)}: {one_line(_first_problem(error), MAX_LINE)}") from error


def _first_problem(error: ValidationError) -> str:
    """One line for pydantic's first complaint; an unknown key goes before the one that it was meant to be."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"] if part not in _FORMS)
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        fix = f"; {HINTS[name]}" if name in HINTS else did_you_mean(name, _keys_beside(first["loc"]))
        return f"{where}: there is no such key{fix}"
    said = first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r:.80}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where or 'config'}: {said}{shown}{more}"


def _keys_beside(loc: tuple[Any, ...]) -> list[str]:
    """The keys that there are where an unknown one stands."""
    model: Any = TrainingConfig
    for part in loc[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, _Strict)]
            model = inner[0]
    return list(model.model_fields)
