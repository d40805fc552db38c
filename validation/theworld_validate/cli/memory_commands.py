"""Commands about GPU memory: memory measure, memory predict."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.options import Loading, check_device, shared_options
from theworld_validate.cli.session import Options, expect_steps, run_checks

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
    list[str] | None, typer.Option("--preset", metavar="NAME", help=f"A freeze preset; {_AGAIN}. Default: four.")
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


def _cells(**choices: Any) -> Any:
    from theworld_validate.memory.cells import build_matrix
    from theworld_validate.results import InputError

    presets = choices.pop("preset") or ("projection", "vision", "language", "full")
    defaults: dict[str, tuple[Any, ...]] = {
        "precision": ("bfloat16",),
        "world_tokens": (784,),
        "batch": (1,),
        "text_tokens": (1024,),
        "optimizer": ("adamw",),
        "num_gpus": (1,),
    }
    given = {name: tuple(value) for name, value in choices.items() if value}
    try:
        return build_matrix(preset=presets, **{**defaults, **given})
    except ValueError as error:
        raise InputError(str(error)) from error


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

    def body(progress: Any) -> Any:
        from theworld_validate.audit_suite import read_blueprint
        from theworld_validate.memory.budget import read_budgets
        from theworld_validate.memory.checks import check_predicted
        from theworld_validate.memory.gpus import check_sweep, gpu_bytes

        cells = _cells(
            preset=preset,
            checkpointing=checkpointing.values,
            chunked_loss=chunked_loss.values,
            precision=precision,
            world_tokens=world_tokens,
            batch=batch,
            text_tokens=text_tokens,
            optimizer=optimizer,
            num_gpus=gpus,
        )
        expect_steps(progress, len(cells))
        return check_predicted(
            read_blueprint(model=model, cosmos=cosmos, config=config, default="4b"),
            cells,
            gpu=gpu,
            capacity_bytes=None if gpu is None else gpu_bytes(gpu),
            sweep_over=check_sweep(sweep),
            expandable_segments=expandable_segments,
            budgets=() if budget is None else read_budgets(budget),
            num_processes=jobs or (2 if len(cells) > 3 else 1),
            progress=progress,
        )

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

    def body(progress: Any) -> Any:
        from theworld_validate.audit_suite import check_measured_of
        from theworld_validate.memory.budget import read_budgets

        cells = _cells(
            preset=preset,
            checkpointing=checkpointing.values,
            chunked_loss=chunked_loss.values,
            precision=precision,
            world_tokens=world_tokens,
            batch=batch,
            text_tokens=text_tokens,
        )
        budgets = () if budget is None else read_budgets(budget)
        import torch

        if not torch.cuda.is_available():
            from theworld_validate.results import CheckResult, Status

            reason = "this machine has no CUDA device; theworld-validate memory predict needs none"
            return [CheckResult(id="memory.measure", status=Status.SKIPPED, reason=reason, seconds=0.0)]
        checkpoint, cosmos = loading.both_checkpoints(progress)
        expect_steps(progress, len(cells) + 1)
        return check_measured_of(
            checkpoint,
            cosmos,
            cells,
            device=check_device(device),
            attn=loading.arguments()["attn"],
            seed=loading.seed,
            budgets=budgets,
            snapshots=snapshots,
            progress=progress,
        )

    return run_checks("theworld-validate memory measure", options, body)
