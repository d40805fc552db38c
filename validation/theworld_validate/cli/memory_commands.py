"""Commands about GPU memory: memory measure, memory predict."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.options import Loading, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult, InputError
from theworld_validate.workers.run import Run

if TYPE_CHECKING:
    from theworld_validate.memory.cells import Cell

memory_app = typer.Typer(help="Peak GPU memory per freeze configuration: measured on a GPU, predicted without one.")
app.add_typer(memory_app, name="memory")


class Switch(StrEnum):
    """A lever of the matrix: off, on, or a cell for each."""

    OFF = "off"
    ON = "on"
    BOTH = "both"

    @property
    def values(self) -> tuple[bool, ...]:
        """What the matrix takes."""
        return {"off": (False,), "on": (True,), "both": (False, True)}[self.value]


_AGAIN = "may be given again"
Preset = Annotated[
    list[str] | None,
    typer.Option("--preset", metavar="NAME", help=f"What trains; {_AGAIN}. Default: four, or full and none."),
]
Checkpointing = Annotated[Switch, typer.Option("--checkpointing", help="Gradient checkpointing.")]
ChunkedLoss = Annotated[Switch, typer.Option("--chunked-loss", help="Head and loss in pieces.")]
Precision = Annotated[
    list[str] | None,
    typer.Option("--precision", metavar="NAME", help=f"bfloat16 or mixed; {_AGAIN}. Default: bfloat16."),
]
WorldTokens = Annotated[
    list[int] | None,
    typer.Option("--world-tokens", metavar="N", help=f"Of a clip; {_AGAIN}. Default: 784."),
]
Batch = Annotated[list[int] | None, typer.Option("--batch", metavar="N", help=f"Rows; {_AGAIN}. Default: 1.")]
TextTokens = Annotated[
    list[int] | None, typer.Option("--text-tokens", metavar="N", help=f"Of each row; {_AGAIN}. Default: 1024.")
]
BudgetFile = Annotated[
    Path | None, typer.Option("--budget", metavar="FILE", help="A TOML file of what cells may take: makes it a gate.")
]


Choices = dict[str, Sequence[str] | Sequence[int] | Sequence[bool] | None]
_DEFAULTS: dict[str, Sequence[str] | Sequence[int]] = {
    "preset": ("projection", "vision", "language", "full"),
    "precision": ("bfloat16",),
    "world_tokens": (784,),
    "batch": (1,),
    "text_tokens": (1024,),
}


_FAMILY_PRESETS = ("full", "none")


def _family_of(checkpoint: str | None) -> str | None:
    """What loads a checkpoint of another family than Gemma 3; None for TheWorld's own."""
    from theworld_validate.subjects.default_targets import default_targets

    if checkpoint is None:
        return None
    base, own = default_targets(checkpoint)
    return base if own is None else None


def _cells(choices: Choices, *, family: str | None = None) -> "tuple[Cell, ...]":
    """The matrix of the choices; what was not given is the default.

    Args:
        family: what loads a model of another family than Gemma 3, which knows its presets itself.

    Raises:
        InputError: for a value that no cell can have, with its option.
    """
    from theworld_validate.memory.cells import build_family_matrix, build_matrix, check_value

    given = {**_DEFAULTS, **{field: values for field, values in choices.items() if values}}
    if family is not None:
        _refuse_the_worlds_own(choices, family)
        given["preset"] = choices.get("preset") or _FAMILY_PRESETS
    for field, values in given.items():
        option = "--gpus" if field == "num_gpus" else f"--{field.replace('_', '-')}"
        try:
            for value in values if family is None or field != "preset" else ():
                check_value(field, value)
        except ValueError as error:
            raise InputError(f"{option}: {error}") from error
    try:
        return build_matrix(**given) if family is None else build_family_matrix(**given)
    except ValueError as error:
        raise InputError(str(error)) from error


def _refuse_the_worlds_own(choices: Choices, family: str) -> None:
    own = {
        "--world-tokens": choices.get("world_tokens"),
        "--chunked-loss": True in (choices.get("chunked_loss") or ()),
        "--gpus": any(number != 1 for number in choices.get("num_gpus") or ()),
    }
    for option, is_given in own.items():
        if is_given:
            raise InputError(f"{option} is TheWorld's own, and this is for {family}; leave it out")


@memory_app.command()
@shared_options(loads=False)
def predict(
    options: Options,
    preset: Preset = None,
    checkpointing: Checkpointing = Switch.BOTH,
    chunked_loss: ChunkedLoss = Switch.OFF,
    precision: Precision = None,
    world_tokens: WorldTokens = None,
    batch: Batch = None,
    text_tokens: TextTokens = None,
    optimizer: Annotated[
        list[str] | None, typer.Option("--optimizer", metavar="NAME", help="adamw or adamw-8bit. Default: adamw.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="tiny|4b|FILE", help="A geometry by name, or a config.json. Default: 4b."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="DIR|ID", help="Take the config of this.")] = None,
    cosmos: Annotated[str | None, typer.Option("--cosmos", metavar="DIR|ID", help="And of this VAE.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME|GIB", help="Does it fit? h200, h100-80g, a100-40g, l4, rtx4090, or GiB."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="WHAT", help="Grow batch, text or world until it no longer fits.")
    ] = None,
    gpus: Annotated[
        list[int] | None,
        typer.Option("--gpus", metavar="N", help=f"Sharded over so many GPUs (FSDP2), for each; {_AGAIN}. Default: 1."),
    ] = None,
    expandable_segments: Annotated[
        bool, typer.Option("--expandable-segments", help="As PYTORCH_CUDA_ALLOC_CONF sets it.")
    ] = False,
    budget: BudgetFile = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", min=1, help="Processes. Default: 2 for more than 3 cells.")
    ] = None,
) -> int:
    """Predict peak GPU memory of training, without a GPU and without weights."""

    def body(run: Run) -> Iterator[CheckResult]:
        from theworld_validate.memory.answers import ModelSource, Terms
        from theworld_validate.memory.budget import read_budgets
        from theworld_validate.memory.checks import check_sweep, predict_in_workers
        from theworld_validate.memory.gpus import find_gpu

        if model is not None and config is not None:
            raise InputError("--model and --config both name a model; give one of the two")
        family = _family_of(model)
        cells = _cells(
            {
                "preset": preset,
                "checkpointing": checkpointing.values,
                "chunked_loss": chunked_loss.values,
                "precision": precision,
                "world_tokens": world_tokens,
                "batch": batch,
                "text_tokens": text_tokens,
                "optimizer": optimizer,
                "num_gpus": gpus,
            },
            family=family,
        )
        if family is not None and sweep == "world":
            raise InputError(f"--sweep world is TheWorld's own, and this is for {family}; give batch or text")
        terms = Terms(
            gpu=None if gpu is None else find_gpu(gpu),
            sweep_over=check_sweep(sweep),
            expandable_segments=expandable_segments,
            budgets=() if budget is None else read_budgets(budget, any_preset=family is not None),
        )
        source = ModelSource(geometry=config or "4b", checkpoint=model, cosmos=cosmos)
        run.expect(len(cells))
        num_workers = jobs or (2 if len(cells) > 3 else 1)
        return predict_in_workers(run, source, cells, terms=terms, num_workers=num_workers)

    return run_checks("theworld-validate memory predict", options, body)


@memory_app.command()
@shared_options(without=("dtype", "device"))
def measure(
    options: Options,
    loading: Loading,
    preset: Preset = None,
    checkpointing: Checkpointing = Switch.BOTH,
    chunked_loss: ChunkedLoss = Switch.OFF,
    precision: Precision = None,
    world_tokens: WorldTokens = None,
    batch: Batch = None,
    text_tokens: TextTokens = None,
    device: Annotated[str, typer.Option("--device", help="cuda or cuda:N.")] = "cuda",
    snapshots: Annotated[
        Path | None,
        typer.Option("--snapshots", metavar="DIR", help="Write one file a cell, for pytorch.org/memory_viz."),
    ] = None,
    budget: BudgetFile = None,
) -> int:
    """Measure peak GPU memory of real training steps; needs CUDA."""

    def body(run: Run) -> Iterator[CheckResult]:
        from theworld_validate.memory.budget import read_budgets
        from theworld_validate.memory.checks import measure_target

        family = _family_of(loading.model)
        cells = _cells(
            {
                "preset": preset,
                "checkpointing": checkpointing.values,
                "chunked_loss": chunked_loss.values,
                "precision": precision,
                "world_tokens": world_tokens,
                "batch": batch,
                "text_tokens": text_tokens,
            },
            family=family,
        )
        budgets = () if budget is None else read_budgets(budget, any_preset=family is not None)
        if not device.startswith("cuda"):
            raise InputError(f"--device {device}: memory is measured on cuda or cuda:N; memory predict needs none")
        target = replace(loading.target(run, needs_cosmos=family is None), device=device)
        run.expect(len(cells) + 1)
        return measure_target(run, target, cells, budgets=budgets, snapshots=snapshots)

    return run_checks("theworld-validate memory measure", options, body)
