"""Commands about the model and the machine: world, synth, doctor."""

from pathlib import Path
from typing import Annotated, Any

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.options import Debug, Json, Loading, Seed, Size, check_device, shared_options
from theworld_validate.cli.session import Options, guard, run_checks


@app.command()
@shared_options()
def world(
    options: Options,
    loading: Loading,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", metavar="FILE", help="A clip as .npy: (3, frames, height, width) in [-1, 1]."),
    ] = None,
) -> int:
    """Check the world path: token counts, effect on logits, gradients, and batches against rows."""

    def body(progress: Any) -> Any:
        from theworld_validate.suite import check_world_of

        checkpoint, cosmos = loading.both_checkpoints(progress)
        return check_world_of(checkpoint, cosmos, frames=frames, progress=progress, **loading.arguments())

    return run_checks("theworld-validate world", options, body, num_steps=6)


@app.command()
def synth(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    size: Annotated[
        Size, typer.Option("--size", help="tiny (a few MB) or 4b (the real geometry, 8.9 GB).")
    ] = Size.TINY,
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="Where tensors are drawn: cpu or cuda.")] = "cpu",
    debug: Debug = False,
) -> None:
    """Write a random-weight checkpoint in the real format: DIR/gemma and DIR/cosmos."""

    def action() -> int:
        from theworld_validate.suite import write_synthetic

        checkpoint = write_synthetic(size.value, directory, seed=seed, device=check_device(device))
        print(f"theworld-validate --model {checkpoint.gemma} --cosmos {checkpoint.cosmos}")
        return 0

    _finish(guard(action, debug=debug))


@app.command()
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show the environment, and what can run here."""

    def action() -> int:
        from theworld_validate.suite import print_doctor

        print_doctor(as_json=json)
        return 0

    _finish(guard(action, debug=debug))


def _finish(code: int) -> None:
    if code:
        raise typer.Exit(code)
