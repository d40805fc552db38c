"""The application, and the bare command: every check that the machine can run."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.commands import Commands
from theworld_validate.cli.options import Loading, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run

app = typer.Typer(
    name="theworld-validate",
    cls=Commands,
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Prove what a wrapped, extended, adapted or upgraded model really is: parity with its base class, bit "
    "for bit, and what each addition costs.",
    epilog=(
        "Exit codes: 0 every check passed, 1 a check failed, 2 wrong usage or unreadable input, 3 inconclusive, "
        "4 an error of the harness itself, 130 interrupted."
    ),
)

DEFAULT_OUTPUT = Path("reports/latest")


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
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Only these checks; may be given again: parity, globals, files, world, buffers, gradients, params, "
            "memory, claims, measure.",
        ),
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

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.rendering.svg import load_matplotlib
        from theworld_validate.run_suite import run_groups, start_ahead
        from theworld_validate.suite import choose_groups

        groups = choose_groups(suite, only or ())
        with start_ahead(groups) as process:
            if process is not None and options.output is not None:  # the workers' server imports for seconds now
                load_matplotlib()
            target = loading.target(run)
            if suite == "gpu" and target.device == "cpu":
                target = replace(target, device="cuda")
            yield from run_groups(target, run, groups, process=process)

    return run_checks("theworld-validate", options, body)
