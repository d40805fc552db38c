"""Options of the memory commands, and the cells that they stand for.

In: what was given on the command line. Out: a matrix of cells, or an `InputError` that names the option.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.results import InputError

if TYPE_CHECKING:
    from theworld_validate.memory.adapter_config import Adapter
    from theworld_validate.memory.cells import Cell


class Switch(StrEnum):
    """A lever of the matrix: off, on, or a cell for each."""

    OFF = "off"
    ON = "on"
    BOTH = "both"

    @property
    def values(self) -> tuple[bool, ...]:
        """What the matrix takes."""
        return {"off": (False,), "on": (True,), "both": (False, True)}[self.value]


class Task(StrEnum):
    """What a cell does; as `theworld_validate.memory.cells.TASKS`, which imports more."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    GENERATE = "generate"
    ROLLOUT = "rollout"


AGAIN = "may be given again"
TaskName = Annotated[
    Task,
    typer.Option(
        "--task", help="Train (a step), evaluate, generate (with a clip), or rollout: Cosmos looks ahead first."
    ),
]
Preset = Annotated[
    list[str] | None,
    typer.Option("--preset", metavar="NAME", help=f"What trains; {AGAIN}. Default: four, or full and none."),
]
Checkpointing = Annotated[Switch | None, typer.Option("--checkpointing", help="Gradient checkpointing. Default: both.")]
ChunkedLoss = Annotated[Switch | None, typer.Option("--chunked-loss", help="Head and loss in pieces. Default: off.")]
Precision = Annotated[
    list[str] | None,
    typer.Option("--precision", metavar="NAME", help=f"bfloat16 or mixed; {AGAIN}. Default: bfloat16."),
]
Optimizer = Annotated[
    list[str] | None,
    typer.Option("--optimizer", metavar="NAME", help=f"adamw or adamw-8bit; {AGAIN}. Default: adamw."),
]
AdapterFile = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="FILE",
        help=f"Train LoRA: an adapter_config.json, its folder, or lora:RANK; {AGAIN}.",
    ),
]
Quantization = Annotated[
    list[str] | None,
    typer.Option("--quantization", metavar="NAME", help=f"none, or nf4: frozen layers in 4 bit; {AGAIN}."),
]
Accumulation = Annotated[
    list[int] | None,
    typer.Option("--accumulation", metavar="N", help=f"Batches for each optimizer step; {AGAIN}. Default: 1."),
]
WorldTokens = Annotated[
    list[int] | None,
    typer.Option("--world-tokens", metavar="N", help=f"Of a clip; {AGAIN}. Default: 784."),
]
Batch = Annotated[list[int] | None, typer.Option("--batch", metavar="N", help=f"Rows; {AGAIN}. Default: 1.")]
TextTokens = Annotated[
    list[int] | None, typer.Option("--text-tokens", metavar="N", help=f"Of each row; {AGAIN}. Default: 1024.")
]
_CALLS = "generate, rollout: "
Frames = Annotated[
    list[int] | None, typer.Option("--frames", metavar="N", help=f"{_CALLS}of the clip, 1 + 4k; {AGAIN}. Default: 1.")
]
NewTokens = Annotated[
    list[int] | None,
    typer.Option("--new-tokens", metavar="N", help=f"{_CALLS}tokens to generate; {AGAIN}. Default: 128."),
]
WorldSteps = Annotated[
    list[int] | None,
    typer.Option("--world-steps", metavar="N", help=f"rollout: latent steps to predict; {AGAIN}. Default: 8."),
]
DenoisingSteps = Annotated[
    list[int] | None,
    typer.Option("--denoising-steps", metavar="N", help=f"rollout: of the diffusion; {AGAIN}. Default: 35."),
]
Guidance = Annotated[Switch | None, typer.Option("--guidance", help="rollout: classifier-free guidance. Default: on.")]
Offload = Annotated[
    Switch | None, typer.Option("--offload", help="rollout: what predicts on the CPU between uses. Default: off.")
]
Gpus = Annotated[
    list[int] | None,
    typer.Option("--gpus", metavar="N", help=f"One rank of so many GPUs, for each; {AGAIN}. Default: 1."),
]
Strategy = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        metavar="NAME",
        help=f"Of several GPUs: fsdp2 (shards) or ddp (copies); {AGAIN}. Default: fsdp2.",
    ),
]
OffloadActivations = Annotated[
    Switch | None,
    typer.Option("--offload-activations", help="What autograd saves on the CPU (save_on_cpu). Default: off."),
]
OffloadOptimizer = Annotated[
    Switch | None,
    typer.Option(
        "--offload-optimizer", help="AdamW's states on the CPU; sharded: parameters and gradients too. Default: off."
    ),
]
BudgetFile = Annotated[
    Path | None, typer.Option("--budget", metavar="FILE", help="A TOML file of what cells may take: makes it a gate.")
]


Choices = dict[str, "Sequence[str] | Sequence[int] | Sequence[bool] | Sequence[Adapter] | None"]
_DEFAULTS: Choices = {
    "preset": ("projection", "vision", "language", "full"),
    "checkpointing": (False, True),
}
_OPTIONS = {"num_gpus": "--gpus"}  # where an option's name is not its field's


def _option_of(field: str) -> str:
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


def values_of(switch: Switch | None) -> tuple[bool, ...] | None:
    return None if switch is None else switch.values


_FAMILY_PRESETS = ("full", "none")


def family_of(checkpoint: str | None) -> str | None:
    """What loads a checkpoint of another family than Gemma 3; None for TheWorld's own."""
    from theworld_validate.subjects.default_targets import default_targets

    if checkpoint is None:
        return None
    base, own = default_targets(checkpoint)
    return base if own is None else None


def read_adapters(given: Sequence[str] | None, *, family: str | None) -> "list[Adapter] | None":
    """The adapters of `--adapter`.

    Raises:
        InputError: if one cannot be read, or its memory is not known.
    """
    if not given:
        return None
    from theworld_validate.memory.adapter_config import read_adapter

    adapters = [read_adapter(one, is_the_worlds=family is None) for one in given]
    for i, one in enumerate(adapters):
        if any(other.title == one.title and other != one for other in adapters[:i]):
            raise InputError(
                f"--adapter: two different adapters are called {one.title}; give their folders other names"
            )
    return adapters


def cells_of(task: Task, choices: Choices, *, family: str | None = None) -> "tuple[Cell, ...]":
    """The matrix of the choices for a task; what was not given is the default.

    Args:
        family: what loads a model of another family than Gemma 3, which knows its presets itself.

    Raises:
        InputError: for a value that no cell can have, or an option of another task, with its option.
    """
    from theworld_validate.memory.cells import OWN_FIELDS, build_family_matrix, build_matrix, check_value

    own = OWN_FIELDS[task.value]
    others = {field: name for name, fields in reversed(OWN_FIELDS.items()) for field in fields if field not in own}
    given = {field: values for field, values in choices.items() if values}
    for field in given:
        if field in others:
            raise InputError(f"{_option_of(field)} is of --task {others[field]}; leave it out of --task {task.value}")
    matrix = {field: values for field, values in _DEFAULTS.items() if field in own} | given
    has_presets = task is Task.TRAIN and not choices.get("adapter")
    if not has_presets:
        if choices.get("preset"):
            raise InputError("--preset and --adapter both say what trains; give one of the two")
        matrix.pop("preset", None)
    if family is not None:
        if task not in (Task.TRAIN, Task.EVALUATE):
            raise InputError(f"--task {task.value} is TheWorld's own, and this is for {family}; leave it out")
        _refuse_the_worlds_own(choices, family)
        matrix["preset"] = (choices.get("preset") or _FAMILY_PRESETS) if has_presets else _FAMILY_PRESETS[1:]
    for field, values in matrix.items():
        try:
            for value in (values or ()) if family is None or field != "preset" else ():
                check_value(field, value)
        except ValueError as error:
            raise InputError(f"{_option_of(field)}: {error}") from error
    try:
        asked = {field: values or () for field, values in matrix.items()}
        if family is not None:
            return build_family_matrix(**asked)
        return build_matrix(task=(task.value,), **asked)
    except ValueError as error:
        raise InputError(str(error)) from error


def _refuse_the_worlds_own(choices: Choices, family: str) -> None:
    own = {
        "--world-tokens": choices.get("world_tokens"),
        "--chunked-loss": True in (choices.get("chunked_loss") or ()),
        "--gpus": any(number != 1 for number in choices.get("num_gpus") or ()),
        "--strategy": any(name != "fsdp2" for name in choices.get("strategy") or ()),
    }
    for option, is_given in own.items():
        if is_given:
            raise InputError(f"{option} is TheWorld's own, and this is for {family}; leave it out")
