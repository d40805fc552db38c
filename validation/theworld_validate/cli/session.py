"""One command from start to exit code: run its checks, report them, and answer for what goes wrong.

In: the options that every command takes, and a function that makes check results. Out: the report on
stdout (or JSON alone), progress and errors on stderr, a report folder if asked for, and the exit code.
"""

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from theworld_validate.interrupts import kept_interrupts
from theworld_validate.results import CheckResult, InputError, Report, Status, exit_code

INPUT_ERROR_CODE = 2
INTERRUPTED_CODE = 130
ISSUES = "https://github.com/theworld/theworld/issues"

Progress = Callable[[str], None]
Body = Callable[[Progress], Sequence[CheckResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every command takes."""

    json: bool = False
    output: Path | None = None
    quiet: bool = False
    debug: bool = False


def run_checks(
    command: str,
    options: Options,
    body: Body,
    *,
    num_steps: int | None = None,
    finished: list[CheckResult] | None = None,
) -> int:
    """Run a command's checks and report them; return the exit code.

    Args:
        command: as the user would type it.
        body: makes the results; it is given a function to call with a line before each step.
        num_steps: how many such calls to expect, for the progress bar.
        finished: where the body puts results as they come; what is there when it is interrupted is reported.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    started = time.perf_counter()

    def make_report(checks: Sequence[CheckResult], environment: dict[str, Any]) -> dict[str, Any]:
        return Report(
            command=command,
            started_at=started_at,
            seconds=time.perf_counter() - started,
            environment=environment,
            checks=tuple(checks),
        ).to_json()

    def body_and_report() -> int:
        if options.output is not None:
            from theworld_validate.rendering.folder import check_output_folder

            check_output_folder(options.output)
        with show_progress(quiet=options.quiet, num_steps=num_steps) as progress:
            progress("importing torch and transformers")
            prepare_libraries()
            try:
                checks = body(progress)
                progress.raise_again()
            except KeyboardInterrupt:
                if finished:
                    reason = "interrupted; the checks before it are whole"
                    last = CheckResult(id="interrupted", status=Status.ERROR, reason=reason, seconds=0.0)
                    _publish(make_report([*finished, last], here()), options)
                raise
        report = make_report(checks, here())
        _publish(report, options)
        return exit_code(Status(report["verdict"]))

    def here() -> dict[str, Any]:
        from theworld_validate.environment import calibrate, describe_environment

        return {**describe_environment(), "calibration_seconds": calibrate()}

    def on_input_error(error: InputError) -> None:
        if options.json:
            check = CheckResult(id="input", status=Status.ERROR, reason=str(error), seconds=0.0)
            print(json.dumps(make_report([check], {}), indent=2))

    return guard(body_and_report, debug=options.debug, on_input_error=on_input_error)


def guard(
    action: Callable[[], int], *, debug: bool = False, on_input_error: Callable[[InputError], None] = lambda error: None
) -> int:
    """Run an action; turn what goes wrong into one line on stderr and an exit code."""
    try:
        return action()
    except InputError as error:
        on_input_error(error)
        print(f"error: {error}", file=sys.stderr)
        return INPUT_ERROR_CODE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED_CODE
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"internal error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
            print(f"run again with --debug for the traceback, and report it at {ISSUES}", file=sys.stderr)
        return exit_code(Status.ERROR)


def prepare_libraries() -> None:
    """Keep the libraries' own progress bars and advice off the terminal, and let cuBLAS be deterministic."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts, and only then
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity(hub_logging.CRITICAL)
    logging.disable_progress_bar()
    logging.set_verbosity_error()


class _Bar:
    """A progress bar on stderr, gone when the work is done."""

    def __init__(self, num_steps: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=num_steps and num_steps + 1)
        self._begun = False

    def __enter__(self) -> Progress:
        self._progress.start()
        return self

    def expect(self, num_steps: int) -> None:
        """Learn how many steps are still to come."""
        self._progress.update(self._task, total=self._progress.tasks[self._task].completed + num_steps + 1)

    def __call__(self, description: str) -> None:
        self._progress.update(self._task, description=description, advance=int(self._begun))
        self._begun = True

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


class _Steps:
    """What a check tells its steps to; one that follows an interrupt is not begun."""

    def __init__(self, progress: Progress, raise_again: Callable[[], None]) -> None:
        self._progress, self.raise_again = progress, raise_again

    def __call__(self, description: str) -> None:
        self.raise_again()
        self._progress(description)

    def expect(self, num_steps: int) -> None:
        """Learn how many steps are still to come."""
        if isinstance(self._progress, _Bar):
            self._progress.expect(num_steps)


@contextmanager
def show_progress(*, quiet: bool, num_steps: int | None) -> Iterator[_Steps]:
    """A context that gives a function to call with a line before each step; a bar only on a terminal."""
    is_shown = not quiet and sys.stderr.isatty()
    bar: Any = _Bar(num_steps) if is_shown else nullcontext(lambda step: None)
    with bar as progress, kept_interrupts() as raise_again:
        yield _Steps(progress, raise_again)


def expect_steps(progress: Progress, num_steps: int) -> None:
    """Tell a bar how many steps are to come, where that is only known inside a command."""
    if isinstance(progress, _Steps):
        progress.expect(num_steps)


def _publish(report: dict[str, Any], options: Options) -> None:
    from theworld_validate.rendering.github import tell_github

    if options.output is not None:
        from theworld_validate.rendering.folder import write_report_folder

        write_report_folder(report, options.output)
    if options.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    elif not options.quiet:
        from rich.console import Console

        from theworld_validate.rendering.console import print_report

        print_report(Console(), report)
    tell_github(report)
    if options.output is not None and not options.quiet:
        print(f"report: {options.output / 'report.html'}", file=sys.stderr)
