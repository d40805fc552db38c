"""Commands that audit one model: files, drift, training, buffers, params, gradients, globals, claims."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import AUDIT, TRAINING
from theworld_validate.cli.options import Dtype, Loading, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run

_PRESET = typer.Option("--preset", metavar="NAME", help="Only this freeze preset; may be given again.")


@app.command(rich_help_panel=AUDIT)
@shared_options(loads=False)
def files(
    options: Options,
    checkpoint: Annotated[
        str | None, typer.Argument(metavar="DIR|ID", help="A checkpoint: a folder or a hub id. Default: a tiny one.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also check a hub cache's files against the checksums they are named by.")
    ] = False,
) -> int:
    """Audit a checkpoint's files without loading them: every key against every parameter, and every value once."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.suite import audit_files
        from theworld_validate.workers.run import check_in_worker

        return check_in_worker(run, audit_files(Loading(model=checkpoint).target(run).checkpoint, verify=verify))

    return run_checks("theworld-validate files", options, body)


@app.command(rich_help_panel=TRAINING)
@shared_options(loads=False)
def drift(
    options: Options,
    base: Annotated[str, typer.Argument(metavar="BASE", help="What was trained from: a folder or a hub id.")],
    trained: Annotated[str, typer.Argument(metavar="TRAINED", help="What came of it, whole or trainable-only.")],
    cosmos: Annotated[
        str | None,
        typer.Option("--cosmos", metavar="DIR|ID", help="The VAE that was begun with, if BASE has none."),
    ] = None,
    trains: Annotated[
        list[str] | None,
        typer.Option(
            "--trains", metavar="NAME", help="A component that was to train, or a preset. Default: as TRAINED notes it."
        ),
    ] = None,
) -> int:
    """Which components a training changed, by how much, in how many elements; a frozen one may not have moved."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite
        from theworld_validate.workers.run import check_in_worker

        return check_in_worker(run, suite.drift(base, trained, cosmos=cosmos, trains=trains or ()))

    return run_checks("theworld-validate drift", options, body)


@app.command(rich_help_panel=TRAINING)
@shared_options(loads=False)
def training(
    options: Options,
    aspect: Annotated[
        list[str] | None,
        typer.Option(
            "--aspect",
            metavar="NAME",
            help="Only rates, frozen, resume, accumulation, reduction or export; may be given again.",
        ),
    ] = None,
) -> int:
    """Train a tiny model, and see that rates arrive, frozen parts stay, and a run that goes on is the whole one."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite

        return suite.training(run, aspects=aspect or ())

    return run_checks("theworld-validate training", options, body)


@app.command(rich_help_panel=AUDIT)
@shared_options(without=("dtype",))
def buffers(
    options: Options,
    loading: Loading,
    dtype: Annotated[
        list[Dtype] | None,
        typer.Option("--dtype", help="What weights are loaded in; may be given again. Default: all."),
    ] = None,
) -> int:
    """Audit every buffer: against the base class, against its formula, and after casts, saving, moves, compiling."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite
        from theworld_validate.audits.transformations import TRANSFORMATIONS
        from theworld_validate.workers.run import check_in_worker

        dtypes = [each.value for each in dtype or list(Dtype)]
        audit = suite.buffers(loading.target(run), run, suite.ALONE, dtypes=dtypes, after=tuple(TRANSFORMATIONS))
        return check_in_worker(run, audit)

    return run_checks("theworld-validate buffers", options, body)


@app.command(rich_help_panel=AUDIT)
@shared_options(without=("device", "attn", "seed"))
def params(
    options: Options,
    loading: Loading,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="tiny|4b|FILE", help="A geometry by name, or a bare config.json."),
    ] = None,
    preset: Annotated[list[str] | None, _PRESET] = None,
    components: Annotated[
        Path | None,
        typer.Option("--components", metavar="FILE", help="A list of components: {name: [pattern, ...]}, as JSON."),
    ] = None,
) -> int:
    """Count parameters by component; of TheWorld each freeze preset too, and what the first notes' figures count."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.suite import count_params
        from theworld_validate.workers.run import check_in_worker

        audit = count_params(
            model=loading.model,
            cosmos=loading.cosmos,
            config=config,
            presets=preset or (),
            dtype=loading.dtype.value,
            components=components,
        )
        return check_in_worker(run, audit)

    return run_checks("theworld-validate params", options, body)


@app.command(rich_help_panel=AUDIT)
@shared_options()
def gradients(options: Options, loading: Loading, preset: Annotated[list[str] | None, _PRESET] = None) -> int:
    """Run one training step a preset: which parameters receive a gradient, and which wrongly do or do not."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite
        from theworld_validate.workers.run import check_in_worker

        return check_in_worker(run, suite.gradients(loading.target(run), run, suite.ALONE, presets=preset or ()))

    return run_checks("theworld-validate gradients", options, body)


@app.command(name="globals", rich_help_panel=AUDIT)
@shared_options()
def global_state(
    options: Options,
    loading: Loading,
    modules: Annotated[
        list[str] | None, typer.Option("--import", metavar="MODULE", help="Also import this; may be given again.")
    ] = None,
) -> int:
    """Compare a fresh process's global state before and after imports and loads."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite

        return suite.global_state(loading.target(run), run, suite.ALONE, modules=modules or ())

    return run_checks("theworld-validate globals", options, body)


@app.command(rich_help_panel=AUDIT)
@shared_options()
def claims(options: Options, loading: Loading) -> int:
    """Hold every claim of the first implementation notes against what is measured here and now."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite
        from theworld_validate.workers.run import check_in_worker

        return check_in_worker(run, suite.claims(loading.target(run), run, suite.ALONE))

    return run_checks("theworld-validate claims", options, body)
