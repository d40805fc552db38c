"""The command that scans a release of transformers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import COMPARE
from theworld_validate.cli.options import Seed, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult, InputError

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run

_LIBRARY = "transformers:"


@app.command(rich_help_panel=COMPARE)
@shared_options(loads=False)
def scan(
    options: Options,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference", metavar="transformers:CLASS", help="Only this class; may be given again. Default: all."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many classes.")] = None,
    seed: Seed = 0,
) -> int:
    """Compare a plain subclass of every class of transformers with its base, each on a tiny checkpoint of its own."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.scan.scan import scan as scan_classes

        for target in reference or ():
            if not target.startswith(_LIBRARY):
                raise InputError(f"--reference {target}: give transformers:CLASS")
        names = [target.removeprefix(_LIBRARY) for target in reference or ()]
        return scan_classes(run, names, limit=limit, seed=seed)

    return run_checks("theworld-validate scan", options, body)
