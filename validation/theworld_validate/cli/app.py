"""The application, and the bare command: every check that the machine can run."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from theworld_validate.cli.options import Loading, shared_options
from theworld_validate.cli.session import Options, run_checks

app = typer.Typer(
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Prove what a fused model really is: parity with Gemma 3 bit for bit, and what the world branch costs.",
    epilog="Exit codes: 0 passed, 1 a check failed, 2 wrong usage or unreadable input, 3 inconclusive.",
)

DEFAULT_OUTPUT = Path("reports/latest")
NUM_STEPS = 80  # of the progress bar


@app.callback(invoke_without_command=True)
@shared_options(output=DEFAULT_OUTPUT)
def default(
    context: typer.Context,
    options: Options,
    loading: Loading,
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME", help="all, parity, or gpu: all on CUDA, with measured memory.")
    ] = "all",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Only this group of checks; may be given again.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> int:
    """Run every check that this machine can run, and write a report folder."""
    if version:
        from theworld import __version__

        print(__version__)
        return 0
    if context.invoked_subcommand is not None:
        return 0

    finished: list[Any] = []

    def body(progress: Any) -> Any:
        from theworld_validate.whole_suite import check_everything, choose_groups

        groups = choose_groups(suite, only or ())
        here = replace(loading, device="cuda") if suite == "gpu" and loading.device == "cpu" else loading
        arguments = here.arguments()
        checkpoint, cosmos = here.checkpoints(progress)
        return check_everything(checkpoint, cosmos, groups=groups, finished=finished, progress=progress, **arguments)

    return run_checks("theworld-validate", options, body, num_steps=NUM_STEPS, finished=finished)
