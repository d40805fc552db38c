"""Options of the memory commands: what a matrix of cells is made of, written once for both.

In: nothing. Out: option types, and `MatrixOptions`, which hold what was given.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


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
    Path | None, typer.Option("--budget", metavar="FILE", help="A TOML file of what configurations may take: a gate.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOptions:
    """What cells are made of, as the user gave it; None for what was not given."""

    task: TaskName = Task.TRAIN
    preset: Preset = None
    checkpointing: Checkpointing = None
    chunked_loss: ChunkedLoss = None
    precision: Precision = None
    optimizer: Optimizer = None
    adapter: AdapterFile = None
    quantization: Quantization = None
    accumulation: Accumulation = None
    world_tokens: WorldTokens = None
    batch: Batch = None
    text_tokens: TextTokens = None
    frames: Frames = None
    new_tokens: NewTokens = None
    world_steps: WorldSteps = None
    denoising_steps: DenoisingSteps = None
    guidance: Guidance = None
    offload: Offload = None

    @property
    def choices(self) -> dict[str, Any]:
        """Values by a cell's fields: of a switch those that it stands for, of an adapter what was typed."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "task"}
        return {
            CELL_FIELDS.get(name, name): value.values if isinstance(value, Switch) else value
            for name, value in given.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedMatrixOptions(MatrixOptions):
    """The same, with what is predicted only."""

    gpus: Gpus = None
    strategy: Strategy = None
    offload_activations: OffloadActivations = None
    offload_optimizer: OffloadOptimizer = None


CELL_FIELDS = {"gpus": "num_gpus"}  # where an option's name is not that of a cell's field
