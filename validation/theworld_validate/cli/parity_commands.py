"""Commands that compare: parity, fingerprint, diff, selftest."""

from pathlib import Path
from typing import Annotated, Any

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.options import Loading, shared_options
from theworld_validate.cli.session import Options, guard, run_checks

PARITY_STEPS = 45  # of the progress bar
SELFTEST_STEPS = 96

_TARGET_HELP = "A model class, or a function that loads one."


@app.command()
@shared_options(without=("cosmos",))
def parity(
    options: Options,
    loading: Loading,
    reference: Annotated[
        str, typer.Option("--reference", metavar="MODULE:CLASS", help="What is taken as right.")
    ] = "transformers:Gemma3ForConditionalGeneration",
    candidate: Annotated[
        str, typer.Option("--candidate", metavar="MODULE:CLASS", help=_TARGET_HELP)
    ] = "theworld:TheWorld",
    probe: Annotated[
        list[str] | None, typer.Option("--probe", metavar="NAME", help="Only this probe; may be given again.")
    ] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Load and run each side in a process of its own.")] = False,
) -> int:
    """Compare the candidate with pure Gemma 3, bit for bit: state, trace, outputs, generation, gradients, files."""

    def body(progress: Any) -> Any:
        from theworld_validate.results import InputError
        from theworld_validate.suite import check_parity_isolated, check_parity_of

        if isolate and probe:
            raise InputError("--isolate runs every probe; leave --probe out")
        checkpoint, _ = loading.checkpoints(progress)
        sides = {"reference": reference, "candidate": candidate, "progress": progress}
        if isolate:
            return check_parity_isolated(checkpoint, **sides, **loading.arguments())
        return check_parity_of(
            checkpoint, **sides, **loading.arguments(), probe_names=probe or (), save_to=options.output
        )

    return run_checks("theworld-validate parity", options, body, num_steps=5 if isolate else PARITY_STEPS)


@app.command()
@shared_options(without=("cosmos", "output"))
def fingerprint(
    options: Options,
    loading: Loading,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE|DIR", help="Where to write: a .json file, or a folder.")
    ],
    target: Annotated[str, typer.Option("--target", metavar="MODULE:CLASS", help=_TARGET_HELP)] = "theworld:TheWorld",
) -> int:
    """Write everything observable about one model to a file, for `diff`."""

    def action() -> int:
        from theworld_validate.cli.session import prepare_libraries, show_progress
        from theworld_validate.documents.fingerprint import write_fingerprint
        from theworld_validate.suite import make_fingerprint

        with show_progress(quiet=options.quiet, num_steps=15) as progress:
            prepare_libraries()
            checkpoint, _ = loading.checkpoints(progress)
            made = make_fingerprint(checkpoint, target=target, progress=progress, **loading.arguments())
        path = write_fingerprint(made, output)
        if options.json:
            print(path.read_text(encoding="utf-8"))
        elif not options.quiet:
            print(path)
        return 0

    return guard(action, debug=options.debug)


@app.command()
@shared_options(loads=False)
def diff(
    options: Options,
    reference: Annotated[Path, typer.Argument(metavar="A", help="What is taken as right: a file or folder.")],
    candidate: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.")],
) -> int:
    """Compare two fingerprints, made by any process, machine or release: surroundings first, then the models."""

    def body(_progress: Any) -> Any:
        from theworld_validate.documents.fingerprint import read_fingerprint
        from theworld_validate.parity.check import compare_files

        return compare_files(read_fingerprint(reference), read_fingerprint(candidate))

    return run_checks("theworld-validate diff", options, body)


@app.command()
@shared_options(without=("cosmos",))
def selftest(
    options: Options,
    loading: Loading,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="NAME", help="Only this fault; may be given again.")
    ] = None,
    list_faults: Annotated[bool, typer.Option("--list", help="List the catalogue and exit.")] = False,
) -> int:
    """Inject every known fault, one at a time, and show that it is caught, placed and explained."""
    if list_faults:
        from theworld_validate.faults.catalogue import CATALOGUE

        for name, entry in CATALOGUE.items():
            print(f"{name:36} {entry.group:10} {entry.seen}")
        return 0

    def body(progress: Any) -> Any:
        from theworld_validate.suite import check_selftest

        checkpoint, _ = loading.checkpoints(progress)
        num_base_runs = 0 if fault else None
        arguments = loading.arguments()
        return check_selftest(
            checkpoint, progress=progress, names=fault or (), num_base_runs=num_base_runs, **arguments
        )

    num_steps = SELFTEST_STEPS if not fault else None
    return run_checks("theworld-validate selftest", options, body, num_steps=num_steps)
