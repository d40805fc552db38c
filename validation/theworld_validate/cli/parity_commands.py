"""Commands that compare: parity, fingerprint, diff, selftest."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import COMPARE, TOOL
from theworld_validate.cli.options import (
    Accept,
    AcceptOption,
    Loading,
    Sketch,
    Truth,
    TruthOption,
    shared_options,
)
from theworld_validate.cli.session import Options, guard, run_checks
from theworld_validate.results import CheckResult

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run

_TARGET_HELP = "A model class, or a function that loads one."
_PROBES = typer.Option(
    "--probes", metavar="MODULE:FUNCTION", help="Your own probes: a function of (config, seed=). See docs/families.md."
)


@app.command(rich_help_panel=COMPARE)
@shared_options(without=("cosmos",))
def parity(
    options: Options,
    loading: Loading,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="MODULE:CLASS", help="What is taken as right. Default: the checkpoint's own class."
        ),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(
            "--candidate", metavar="MODULE:CLASS", help=f"{_TARGET_HELP} Default, for Gemma 3: theworld:TheWorld."
        ),
    ] = None,
    probe: Annotated[
        list[str] | None, typer.Option("--probe", metavar="NAME", help="Only this probe; may be given again.")
    ] = None,
    probes: Annotated[str | None, _PROBES] = None,
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="Also give the control a process of its own; both sides always have theirs."),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="KIND[:PATTERN]",
            help="Show this and do not fail on it: requires_grad, rng, config.field:NAME, attribute:NAME, class, "
            "wrapper.",
        ),
    ] = None,
    allow_extra: Annotated[
        list[str] | None,
        typer.Option("--allow-extra", metavar="PATTERN", help="The same of what only the candidate has, by its name."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="PATH.", help="The model lies here in what the candidate's loader returns."),
    ] = None,
    accept: AcceptOption = Accept.IDENTICAL,
    truth: TruthOption = Truth.AUTO,
    sketch: Sketch = False,
) -> int:
    """Compare a candidate with its base class, bit for bit: state, trace, outputs, generation, gradients, files."""
    accept_rounding = accept is Accept.EQUIVALENT

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.parity.allowances import EXTRA, PREFIX, Allowance, parse_allowance
        from theworld_validate.suite import compare_targets

        allowances = [parse_allowance(text) for text in allow or ()]
        allowances += [Allowance(kind=EXTRA, pattern=pattern) for pattern in allow_extra or ()]
        if prefix is not None:
            allowances.append(Allowance(kind=PREFIX, pattern=prefix))
        return compare_targets(
            replace(loading.target(run), probes=probes),
            run,
            reference=reference,
            candidate=candidate,
            probe_names=probe or (),
            control_in_own_process=isolate,
            allowances=allowances,
            accept_rounding=accept_rounding,
            truth=truth.dtype_for(loading.dtype.value) if accept_rounding else None,
            sketch=sketch,
            prefix=prefix,
        )

    return run_checks("theworld-validate parity", options, body, tells_of_output=True)


@app.command(rich_help_panel=COMPARE)
@shared_options(without=("cosmos", "output"))
def fingerprint(
    options: Options,
    loading: Loading,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE|DIR", help="Where to write: a .json file, or a folder.")
    ],
    target: Annotated[str | None, typer.Option("--target", metavar="MODULE:CLASS", help=_TARGET_HELP)] = None,
    probes: Annotated[str | None, _PROBES] = None,
    sketch: Sketch = False,
    truth: TruthOption = Truth.NONE,
) -> int:
    """Write everything observable about one model to a file, for `diff`; its --truth to NAME.truth.json beside it."""

    def action() -> int:
        from theworld.checkpoints.error_text import one_line
        from theworld_validate.documents.fingerprint import place_of, truth_beside, write_fingerprint
        from theworld_validate.documents.writing import check_place
        from theworld_validate.parity.take_file import take_file, take_truth
        from theworld_validate.progress import show_progress
        from theworld_validate.subjects.default_targets import default_targets
        from theworld_validate.subjects.subject import Subject
        from theworld_validate.workers.run import Run

        place = place_of(output.absolute())
        check_place(place, option="--output")
        with show_progress(quiet=options.quiet) as steps:
            run = Run(progress=steps.tell, expect=steps.expect)
            run.timeout_seconds = options.timeout or run.timeout_seconds
            loaded = replace(loading.target(run), probes=probes)
            base, own = default_targets(loaded.checkpoint)
            subject = Subject.of(loaded, target or own or base)
            made = take_file(subject, run, sketch=sketch or truth is not Truth.NONE)
            wider = truth.dtype_for(loaded.dtype)
            true = None if wider is None else take_truth(replace(subject, dtype=wider), run)
        path = write_fingerprint(made, place)
        if true is not None:
            write_fingerprint(true, truth_beside(place))
        if options.json:
            print(path.read_text(encoding="utf-8"), flush=True)
        elif not options.quiet:
            print(one_line(path, 4096), flush=True)
        return 0

    return guard(action, debug=options.debug)


@app.command(rich_help_panel=COMPARE)
@shared_options(loads=False, runs=False)
def diff(
    options: Options,
    reference: Annotated[Path, typer.Argument(metavar="A", help="What is taken as right: a file or folder.")],
    candidate: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.")],
    accept: AcceptOption = Accept.IDENTICAL,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", metavar="FILE", help="What equivalence is judged by. Default: A's NAME.truth.json."),
    ] = None,
) -> int:
    """Compare two fingerprints, made by any process, machine or release: surroundings first, then the models."""
    accept_rounding = accept is Accept.EQUIVALENT

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.documents.fingerprint import find_truth, read_fingerprint
        from theworld_validate.parity.diff_files import compare_files, joint_plan

        place = find_truth(reference) if truth is None else truth
        true = read_fingerprint(place) if accept_rounding and place is not None else None
        files = read_fingerprint(reference), read_fingerprint(candidate)
        run.plan = joint_plan(*files)
        for role, file in zip(("reference", "candidate"), files, strict=True):
            run.add_subject(file.subject, role=role)
        run.environment = files[1].environment
        return compare_files(*files, accept_rounding=accept_rounding, truth=true)

    return run_checks("theworld-validate diff", options, body)


@app.command(rich_help_panel=TOOL)
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
        from theworld_validate.faults.catalogue import CATALOGUE, FAMILY_FAULTS

        for name, entry in (CATALOGUE | FAMILY_FAULTS).items():
            print(f"{name:36} {entry.group:10} {entry.seen}")
        return 0

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate.faults.selftest import NUM_BASE_RUNS, run_selftest

        return run_selftest(
            loading.target(run), run=run, names=fault or (), num_base_runs=0 if fault else NUM_BASE_RUNS
        )

    return run_checks("theworld-validate selftest", options, body)
