"""One command from start to exit code: run its checks, report them, and answer for what goes wrong.

In: the options that every command takes, and a function that yields check results. Out: the report on stdout (or
JSON alone), progress and errors on stderr, a report folder if asked for, and the exit code. What was found is kept,
whatever fails after it.
"""

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from theworld.command_line import ISSUES, forget_stdout, say
from theworld_validate.progress import interruptible, show_progress
from theworld_validate.results import (
    INPUT_ERROR_CODE,
    INTERNAL_ERROR_CODE,
    INTERRUPTED_CODE,
    CheckResult,
    InputError,
    Report,
    Status,
    exit_code,
)

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run

Body = Callable[["Run"], Iterable[CheckResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every command takes.

    Args:
        command_line: as it was typed; None where it was not (from Python).
        timeout: seconds that each worker may take; None where a command runs no subject.
    """

    json: bool = False
    output: Path | None = None
    quiet: bool = False
    debug: bool = False
    timeout: float | None = None
    command_line: str | None = None


NOT_WRITTEN = "report: none was written; --output DIR writes report.html and report.json"


def run_checks(command: str, options: Options, body: Body, *, tells_of_output: bool = False) -> int:
    """Run a command's checks and report them; return the exit code.

    Args:
        command: its name, as the user would type it.
        body: yields the results, as they are made.
        tells_of_output: whether it says that no folder was written, where none was named.
    """
    session = _Session(command, options, tells_of_output=tells_of_output)
    return guard(session.run, debug=options.debug, body=body)


def guard(action: Callable[..., int], *, debug: bool = False, **arguments: object) -> int:
    """Run an action; turn what goes wrong into one line on stderr and an exit code."""
    from theworld.checkpoints.bounded_files import one_line

    try:
        with interruptible():
            return action(**arguments)
    except InputError as error:
        say(f"error: {one_line(error, 2000)}")
        return INPUT_ERROR_CODE
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED_CODE
    except BrokenPipeError:
        forget_stdout()
        return INPUT_ERROR_CODE
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {one_line(where)}{one_line(error.strerror or error)}; free some space or name another place")
        forget_stdout()
        return INPUT_ERROR_CODE
    except (Exception, SystemExit) as error:  # a library that ends the process has proved nothing
        tell_internal_error(error, debug=debug)
        return INTERNAL_ERROR_CODE


def tell_internal_error(error: BaseException, *, debug: bool) -> None:
    """Say on stderr that the harness itself failed, and how to report it."""
    from theworld.checkpoints.bounded_files import one_line

    if debug:
        say("".join(traceback.format_exception(error)))
        return
    say(f"internal error: {type(error).__name__}: {one_line(error)}")
    say(f"run again with --debug for the traceback, and report it at {ISSUES}")


class _Session:
    """The state of one command: what was found so far, and since when."""

    def __init__(self, command: str, options: Options, *, tells_of_output: bool) -> None:
        self._command, self._options, self._tells_of_output = command, options, tells_of_output
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._started = time.perf_counter()
        self._finished: list[CheckResult] = []
        from theworld_validate.workers.run import Run

        self._run = Run()

    def run(self, body: Body) -> int:
        """Run the checks, and publish the report, whatever happens to the checks."""
        options = self._options
        folder = None
        if options.output is not None:
            from theworld_validate.rendering.folder import check_output_folder

            folder = check_output_folder(options.output)
        try:
            return self._run_in(folder, body)
        finally:
            self._run.close()

    def _run_in(self, folder: Path | None, body: Body) -> int:
        from theworld_validate.workers.run import Run

        options = self._options
        with show_progress(quiet=options.quiet) as steps:
            self._run = Run(progress=steps.tell, expect=steps.expect, keeps_tensors=folder is not None)
            if options.timeout is not None:
                self._run.timeout_seconds = options.timeout
            code, line = self._collect(body)
        if code == INPUT_ERROR_CODE and len(self._finished) == 1:  # nothing was found: the line says all
            if options.json:
                self._print_json(self._report())
            say(line)
            return code
        verdict = self._publish(folder)
        if line:
            say(line)
        return code or verdict

    def _collect(self, body: Body) -> tuple[int, str]:
        """Take the checks as they come; return an exit code where something else than a check decides, and a line."""
        from theworld.checkpoints.bounded_files import one_line

        try:
            for check in body(self._run):
                self._finished.append(check)
        except InputError as error:
            self._add("input", str(error))
            return INPUT_ERROR_CODE, f"error: {one_line(error, 2000)}"
        except KeyboardInterrupt:
            if not self._finished:
                raise
            self._add("interrupted", "interrupted; the checks before it are whole")
            return INTERRUPTED_CODE, "interrupted"
        except Exception as error:
            self._add("internal", f"{type(error).__name__}: {one_line(error)}")
            tell_internal_error(error, debug=self._options.debug)
            return INTERNAL_ERROR_CODE, ""
        if self._options.debug:
            for text in self._run.tracebacks:
                say(text)
        return 0, ""

    def _add(self, name: str, reason: str) -> None:
        self._finished.append(CheckResult(id=name, status=Status.ERROR, reason=reason, seconds=0.0))

    def _report(self) -> Report:
        from theworld_validate.environment import calibrate, describe_machine

        environment = self._run.environment or describe_machine()
        return Report(
            command=self._command,
            command_line=self._options.command_line,
            started_at=self._started_at,
            seconds=time.perf_counter() - self._started,
            environment=replace(environment, calibration_seconds=calibrate()),
            subjects=tuple(self._run.subjects),
            plan=self._run.plan,
            checks=tuple(self._finished),
        )

    def _publish(self, folder: Path | None) -> int:
        """Write the report: its JSON first, then each form by itself; return the verdict's exit code."""
        from theworld.checkpoints.bounded_files import one_line
        from theworld_validate.rendering.github import tell_github

        options, report = self._options, self._report()
        unwritten: InputError | None = None
        if folder is not None:
            from theworld_validate.rendering.folder import write_report_folder

            problems = self._place_tensors(folder)
            try:
                report, unwritten_forms = write_report_folder(report, folder)
                problems += unwritten_forms
            except InputError as error:  # what was found is still printed
                unwritten, problems = error, []
            for problem in problems:
                say(f"warning: {problem}")
        if options.json:
            self._print_json(report)
        place = f"report: {one_line(options.output, 4096)}/report.html"
        is_told = folder is not None and unwritten is None and not options.quiet
        if options.json or options.quiet:
            code = 0
            if is_told:
                say(place)
        else:
            unnamed = NOT_WRITTEN if folder is None and self._tells_of_output else None
            code = self._form(partial(_print_report, place=place if is_told else unnamed), report)
        code = self._form(tell_github, report) or code
        if unwritten is not None:
            raise unwritten
        return code or exit_code(report.verdict)

    def _form(self, show: Callable[[Report], None], report: Report) -> int:
        """Show a form that is no file; one that fails costs that form, and is no pass."""
        try:
            show(report)
        except OSError:
            raise
        except Exception as error:
            tell_internal_error(error, debug=self._options.debug)
            return INTERNAL_ERROR_CODE
        return 0

    def _place_tensors(self, folder: Path) -> list[str]:
        """Put both tensors of the first difference beside the report that is about to name them, if there is room."""
        import shutil

        from theworld.checkpoints.bounded_files import one_line
        from theworld_validate.results import TENSORS_FILE

        made, place = self._run.scratch() / TENSORS_FILE, folder / TENSORS_FILE
        beside = folder / f".{TENSORS_FILE}"
        try:
            if made.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(made, beside)
                os.replace(beside, place)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            return [f"{one_line(place)}: not written ({one_line(error.strerror or error)})"]
        return []

    def _print_json(self, report: Report) -> None:
        from theworld_validate.rendering.json_text import render_json

        print(render_json(report), end="", flush=True)


def _print_report(report: Report, *, place: str | None) -> None:
    """Print the report on stdout; where it was written, on stderr, comes before the verdict, which is last."""
    from theworld_validate.rendering.console import new_console, print_report

    is_said = False

    def say_place() -> None:
        nonlocal is_said
        is_said = True
        if place is not None:
            say(place)

    try:
        print_report(new_console(), report, before_verdict=say_place)
    except BrokenPipeError:  # the reader has seen enough; the verdict stands
        forget_stdout()
    finally:
        if not is_said:
            say_place()
