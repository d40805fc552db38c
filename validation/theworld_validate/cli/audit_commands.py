"""Commands that audit one model: buffers, params, gradients, globals, claims."""

from typing import Annotated, Any

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.options import Dtype, Loading, shared_options
from theworld_validate.cli.session import Options, run_checks

_PRESET = typer.Option("--preset", metavar="NAME", help="Only this freeze preset; may be given again.")


@app.command()
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

    def body(progress: Any) -> Any:
        from theworld_validate.audit_suite import check_buffers_of
        from theworld_validate.audits.transformations import TRANSFORMATIONS

        checkpoint, cosmos = loading.checkpoints(progress)
        arguments = loading.arguments()
        arguments.pop("dtype")
        checks = []
        for each in dtype or list(Dtype):
            more = {**arguments, "dtype": each.value, "after": tuple(TRANSFORMATIONS)}
            checks += check_buffers_of(checkpoint, cosmos, progress=progress, **more)
        return checks

    return run_checks("theworld-validate buffers", options, body, num_steps=6 * len(dtype or list(Dtype)) + 2)


@app.command()
@shared_options(without=("device", "attn", "seed"))
def params(
    options: Options,
    loading: Loading,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="tiny|4b|FILE", help="A geometry by name, or a bare config.json."),
    ] = None,
    preset: Annotated[list[str] | None, _PRESET] = None,
) -> int:
    """Count parameters: each component, each freeze preset, and what the documented figures really are."""

    def body(progress: Any) -> Any:
        from theworld_validate.audit_suite import check_params_of

        return check_params_of(
            model=loading.model,
            cosmos=loading.cosmos,
            config=config,
            presets=preset or (),
            dtype=loading.dtype.value,
            progress=progress,
        )

    return run_checks("theworld-validate params", options, body, num_steps=8)


@app.command()
@shared_options()
def gradients(options: Options, loading: Loading, preset: Annotated[list[str] | None, _PRESET] = None) -> int:
    """Run one training step a preset: which parameters receive a gradient, and which wrongly do or do not."""

    def body(progress: Any) -> Any:
        from theworld_validate.audit_suite import check_gradients_of

        checkpoint, cosmos = loading.both_checkpoints(progress)
        return check_gradients_of(checkpoint, cosmos, presets=preset, progress=progress, **loading.arguments())

    return run_checks("theworld-validate gradients", options, body, num_steps=6)


@app.command(name="globals")
@shared_options()
def global_state(
    options: Options,
    loading: Loading,
    modules: Annotated[
        list[str] | None, typer.Option("--import", metavar="MODULE", help="Also import this; may be given again.")
    ] = None,
) -> int:
    """Compare a fresh process's global state before and after imports and loads."""

    def body(progress: Any) -> Any:
        from theworld_validate.audits.global_state import check_globals

        checkpoint, cosmos = loading.checkpoints(progress)
        return check_globals(checkpoint, cosmos, modules=modules or (), progress=progress, **loading.arguments())

    return run_checks("theworld-validate globals", options, body, num_steps=3)


@app.command()
@shared_options()
def claims(options: Options, loading: Loading) -> int:
    """Hold every documented claim against what is measured here and now."""

    def body(progress: Any) -> Any:
        from theworld_validate.audit_suite import check_claims_of

        checkpoint, cosmos = loading.checkpoints(progress)
        return check_claims_of(checkpoint, cosmos, progress=progress, **loading.arguments())

    return run_checks("theworld-validate claims", options, body, num_steps=60)
