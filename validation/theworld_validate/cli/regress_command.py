"""The command that compares reports: regress."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import RELEASES
from theworld_validate.cli.options import Accept, AcceptOption, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run


@app.command(rich_help_panel=RELEASES)
@shared_options(loads=False, runs=False)
def regress(
    options: Options,
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="A report, or a folder with one for each environment.")
    ],
    current: Annotated[Path, typer.Argument(metavar="CURRENT", help="A report's file or folder.")],
    budget: Annotated[
        Path | None, typer.Option("--budget", metavar="FILE", help="TOML: [memory] growth, [time] growth, min_seconds.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Show the difference, and take CURRENT as BASELINE.")
    ] = False,
    accept: AcceptOption = Accept.IDENTICAL,
) -> int:
    """Compare a report with a baseline: nothing may stop passing, appear, vanish, or cost more than its budget."""

    def body(_run: "Run") -> Iterator[CheckResult]:
        from theworld_validate.regression.command import compare_with_baseline

        return compare_with_baseline(
            baseline, current, budget=budget, update=update, accept_rounding=accept is Accept.EQUIVALENT
        )

    return run_checks("theworld-validate regress", options, body)
