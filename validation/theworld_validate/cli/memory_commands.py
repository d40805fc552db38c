"""Commands about GPU memory: memory measure, memory predict."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import TRAINING, Commands
from theworld_validate.cli.memory_matrix import cells_of, family_of
from theworld_validate.cli.memory_options import BudgetFile, MatrixOptions, PredictedMatrixOptions, Task
from theworld_validate.cli.memory_run_options import (
    GarbageCollectionThreshold,
    Lengths,
    MaxSplitSize,
    RunOptions,
    Seed,
    Steps,
)
from theworld_validate.cli.options import Generation, Loading, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult, InputError

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run

memory_app = typer.Typer(
    cls=Commands, help="Peak GPU memory of training and inference: measured on a GPU, predicted without one."
)
app.add_typer(memory_app, name="memory", rich_help_panel=TRAINING)


@memory_app.command()
@shared_options(loads=False, matrix=PredictedMatrixOptions)
def predict(
    options: Options,
    matrix: PredictedMatrixOptions,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="tiny|4b|FILE", help="A geometry by name, or a config.json. Default: 4b."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="DIR|ID", help="Take the config of this.")] = None,
    cosmos: Annotated[
        str | None, typer.Option("--cosmos", metavar="DIR|ID", help="And of this VAE, and of what predicts.")
    ] = None,
    generation: Annotated[
        Generation | None,
        typer.Option("--generation", help="rollout: of what predicts beside a --config. Default: predict2."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME|GIB", help="Does it fit? h200, h100-80g, a100-40g, l4, rtx4090, or GiB."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="WHAT", help="Grow batch, text or world until it no longer fits.")
    ] = None,
    expandable_segments: Annotated[
        bool, typer.Option("--expandable-segments", help="As PYTORCH_CUDA_ALLOC_CONF sets it.")
    ] = False,
    lengths: Lengths = None,
    steps: Steps = None,
    seed: Seed = None,
    garbage_collection_threshold: GarbageCollectionThreshold = None,
    max_split_size_mb: MaxSplitSize = None,
    budget: BudgetFile = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, help="Processes. Default: 2 for runs, or over 3 configurations."),
    ] = None,
) -> int:
    """Predict peak GPU memory of training or inference, without a GPU and without weights."""

    def body(run: "Run") -> Iterator[CheckResult]:
        from theworld_validate.memory.answers import ModelSource, Terms
        from theworld_validate.memory.budget import read_budgets
        from theworld_validate.memory.checks import check_sweep, predict_in_workers
        from theworld_validate.memory.gpus import find_gpu

        if model is not None and config is not None:
            raise InputError("--model and --config both name a model; give one of the two")
        family = family_of(model)
        cells = cells_of(matrix, family=family)
        if family is not None and sweep == "world":
            raise InputError(f"--sweep world is TheWorld's own, and this is for {family}; give batch or text")
        run_options = RunOptions(
            lengths=lengths,
            steps=steps,
            seed=seed,
            expandable_segments=expandable_segments,
            garbage_collection_threshold=garbage_collection_threshold,
            max_split_size_mb=max_split_size_mb,
        )
        run_options.check(matrix.task, text_tokens=matrix.text_tokens, sweep=sweep, accumulation=matrix.accumulation)
        terms = Terms(
            gpu=None if gpu is None else find_gpu(gpu),
            sweep_over=check_sweep(sweep),
            expandable_segments=expandable_segments,
            budgets=() if budget is None else read_budgets(budget, any_preset=family is not None),
        )
        if generation is not None and (model is not None or matrix.task is not Task.ROLLOUT):
            raise InputError("--generation is of --task rollout beside a --config; a --cosmos repository has its own")
        source = ModelSource(
            geometry=config or "4b",
            checkpoint=model,
            cosmos=cosmos,
            generation=(generation or Generation.PREDICT_2).value,
        )
        if lengths is not None:
            from theworld_validate.memory.run_checks import predict_runs_in_workers

            run_terms = run_options.terms(gpu=terms.gpu, budgets=terms.budgets)
            return predict_runs_in_workers(run, source, cells, terms=run_terms, num_workers=jobs or 2)
        run.expect(len(cells))
        num_workers = jobs or (2 if len(cells) > 3 else 1)
        return predict_in_workers(run, source, cells, terms=terms, num_workers=num_workers)

    return run_checks("theworld-validate memory predict", options, body)


@memory_app.command()
@shared_options(without=("dtype", "device"), matrix=MatrixOptions)
def measure(
    options: Options,
    loading: Loading,
    matrix: MatrixOptions,
    device: Annotated[str, typer.Option("--device", help="cuda or cuda:N.")] = "cuda",
    snapshots: Annotated[
        Path | None,
        typer.Option("--snapshots", metavar="DIR", help="One file a configuration, for pytorch.org/memory_viz."),
    ] = None,
    budget: BudgetFile = None,
) -> int:
    """Measure peak GPU memory of real training steps, or of generate and rollouts; needs CUDA."""

    def body(run: "Run") -> Iterator[CheckResult]:
        from theworld_validate.memory.budget import read_budgets
        from theworld_validate.memory.checks import measure_target

        family = family_of(loading.model)
        cells = cells_of(matrix, family=family)
        budgets = () if budget is None else read_budgets(budget, any_preset=family is not None)
        if not device.startswith("cuda"):
            raise InputError(f"--device {device}: memory is measured on cuda or cuda:N; memory predict needs none")
        target = replace(loading.target(run, needs_cosmos=family is None), device=device)
        run.expect(len(cells) + 1)
        return measure_target(run, target, cells, budgets=budgets, snapshots=snapshots)

    return run_checks("theworld-validate memory measure", options, body)
