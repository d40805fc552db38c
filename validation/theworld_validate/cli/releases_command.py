"""The command that compares releases of a library."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import RELEASES
from theworld_validate.cli.options import Loading, shared_options
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run


@app.command(rich_help_panel=RELEASES)
@shared_options(without=("cosmos",))
def releases(
    options: Options,
    loading: Loading,
    versions: Annotated[
        str, typer.Option("--versions", metavar="A,B,C", help="Releases, in the order in which they are compared.")
    ],
    of: Annotated[
        str, typer.Option("--of", metavar="LIBRARY", help="Whose releases: transformers, or what it stands on.")
    ] = "transformers",
    candidate: Annotated[
        str | None,
        typer.Option("--candidate", metavar="MODULE:CLASS", help="Also compare this with the base in each release."),
    ] = None,
    environments: Annotated[
        Path | None,
        typer.Option("--environments", metavar="DIR", help="Where releases are installed, once. Default: the cache."),
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option("--lock", metavar="FILE", help="Write the newest release that passed, as a constraints file."),
    ] = None,
) -> int:
    """Compare releases of a library, each with the one before it: equal, rounded, changed where, unsafe.

    Each loads the same checkpoint. Bits that differ are judged by what the older of the two gives in a wider dtype.

    Releases that are not installed yet are installed by pip: the only command that installs anything, and
    only for the versions that you name. torch is shared, so it is the library alone that differs.
    """

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.releases.check import Options as Compared
        from theworld_validate.releases.check import check_releases
        from theworld_validate.releases.environments import check_names, default_root
        from theworld_validate.subjects.subject import Subject

        named = tuple(part.strip() for part in versions.split(","))
        check_names(of, named)
        target = loading.target(run)
        return check_releases(
            Subject.of(target, candidate or ""),
            Compared(
                library=of,
                versions=named,
                environments=(environments or default_root()).absolute(),
                candidate=candidate,
                lock=lock.absolute() if lock is not None else None,
            ),
            run,
        )

    return run_checks("theworld-validate releases", options, body)
