"""Commands about the model, the machine and what was reported: world, synth, doctor, render."""

import json as json_module
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.commands import AUDIT, RELEASES, TOOL
from theworld_validate.cli.options import Debug, Generation, Json, Loading, Quiet, Seed, Size, Vae, shared_options
from theworld_validate.cli.session import Options, guard, run_checks
from theworld_validate.results import CheckResult

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run


@app.command(rich_help_panel=AUDIT)
@shared_options()
def world(
    options: Options,
    loading: Loading,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", metavar="FILE", help="A clip: a video, or frames as .npy or .npz."),
    ] = None,
) -> int:
    """Check the world path: token counts, effect, gradients, batches, and what is observed of pictures and clips."""

    def body(run: "Run") -> Iterable[CheckResult]:
        from theworld_validate import suite
        from theworld_validate.workers.run import check_in_worker

        target = loading.target(run, needs_cosmos=True)
        return check_in_worker(run, suite.world(target, run, suite.ALONE, frames=frames))

    return run_checks("theworld-validate world", options, body)


@app.command(rich_help_panel=TOOL)
def synth(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    size: Annotated[
        Size, typer.Option("--size", help="tiny (a few MB) or 4b (the real geometry, 8.9 GB).")
    ] = Size.TINY,
    vae: Annotated[
        Vae,
        typer.Option("--vae", help="wan2.1 (of Cosmos-Predict2) or wan2.2 (of Cosmos 3: 16 x 16 pixels)."),
    ] = Vae.WAN_2_1,
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="Where tensors are drawn: cpu or cuda.")] = "cpu",
    pipeline: Annotated[
        bool,
        typer.Option("--pipeline", help="Also what predicts: transformer, T5, tokenizer, scheduler (4b: 13.6 GB)."),
    ] = False,
    generation: Annotated[
        Generation | None,
        typer.Option("--generation", help="Of what predicts: predict2, or predict2.5 (Qwen2.5-VL; 4b: 20.7 GB)."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a random-weight checkpoint in the real format: DIR/gemma and DIR/cosmos."""

    def action() -> int:
        from theworld.checkpoints.error_text import one_line
        from theworld_validate.progress import show_progress
        from theworld_validate.synthetic_checkpoints import write_synthetic
        from theworld_validate.workers.run import Run

        with show_progress(quiet=quiet) as steps:
            gemma, cosmos = write_synthetic(
                Run(progress=steps.tell),
                size=size.value,
                vae=vae.value,
                directory=directory,
                seed=seed,
                device=device,
                pipeline=(generation or Generation.PREDICT_2).value if pipeline or generation else None,
            )
        shown = f"next: {shlex.join(['theworld-validate', '--model', gemma, '--cosmos', cosmos])}"
        print(one_line(shown, len(shown) + 1), flush=True)
        return 0

    _finish(guard(action, debug=debug))


@app.command(rich_help_panel=TOOL)
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show the environment, and what can run here."""

    def action() -> int:
        from theworld_validate.suite import ask_environment
        from theworld_validate.workers.run import Run

        environment = ask_environment(Run())
        can_run = {
            "parity": True,
            "world": environment.packages.get("diffusers") is not None,
            "on a GPU": environment.gpu is not None,
        }
        values = asdict(environment)
        if json:
            print(json_module.dumps({"environment": values, "can_run": can_run}, indent=2), flush=True)
            return 0
        for name, value in {**values.pop("packages"), **values}.items():
            if name != "calibration_seconds":
                print(f"{name:14} {'-' if value is None else value}")
        for name, possible in can_run.items():
            print(f"can run {name}: {'yes' if possible else 'no'}", flush=True)
        return 0

    _finish(guard(action, debug=debug))


@app.command(rich_help_panel=RELEASES)
def render(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="A report.json, or a report folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to. Default: beside the report.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make every form of a report from its JSON: Markdown, page, JUnit, figures."""

    def action() -> int:
        from theworld.checkpoints.error_text import one_line
        from theworld_validate.cli.session import say
        from theworld_validate.documents.report import read_report
        from theworld_validate.rendering.folder import render_forms

        read = read_report(report)
        folder = output or (report if report.is_dir() else report.parent)
        _, problems = render_forms(read, folder)
        for problem in problems:
            say(f"error: {problem}")
        if not quiet:
            print(one_line(folder / "report.html", 4096), flush=True)
        return 2 if problems else 0

    _finish(guard(action, debug=debug))


def _finish(code: int) -> None:
    if code:
        raise typer.Exit(code)
