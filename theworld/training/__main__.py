"""`theworld-train CONFIG`, `python -m theworld.training CONFIG`, `accelerate launch -m theworld.training CONFIG`.

In: a config. Out: an exit code: 0 all stages are finished, 1 training failed, 2 the config or its files cannot be used,
4 this program itself failed, 130 interrupted. Heavy imports wait until the config is read.
"""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from theworld.checkpoints.bounded_files import check_readable_path
from theworld.checkpoints.error_text import one_line
from theworld.command_line import ISSUES, run_command, say

FAILED, UNUSABLE, INTERNAL, INTERRUPTED = 1, 2, 4, 130
_NUMBERS_OF_A_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MOST_SHOWN = 2000  # characters of a line


class _OneLine(logging.Formatter):
    """What is logged may hold names out of files."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return one_line(super().formatMessage(record), _MOST_SHOWN)


class _Train(typer.core.TyperCommand):
    """The command; wrong usage is one line."""

    def main(self, *args: Any, standalone_mode: bool = True, **given: Any) -> Any:
        """Run it and end the process."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **given)
        return run_command(super().main, *args, **given)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=_Train)
def train(
    config: Annotated[Path, typer.Argument(help="YAML or JSON; docs/training.md lists the keys.", metavar="CONFIG")],
    resume: Annotated[
        bool, typer.Option("--resume/--from-scratch", help="Continue a run in output_dir, or remove it and begin anew.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check config and data, say what would be done.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an internal error.")] = False,
) -> None:
    """Train TheWorld in stages."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    is_first = os.environ.get("RANK", "0") == "0"
    logging.getLogger("theworld.training").setLevel(logging.INFO if is_first else logging.WARNING)
    raise SystemExit(_answer(config, resume=resume, dry=dry_run, debug=debug))


def _answer(path: Path, *, resume: bool, dry: bool, debug: bool = False) -> int:
    from theworld.training.config import FailedError, read_config

    try:
        _check_launched()
        config = read_config(path)
        from theworld.training import run as runner

        text = ""
        if dry:
            text = runner.dry_run(config)
        else:
            runner.run(config, from_scratch=not resume)
    except FailedError as error:
        return _say(error, UNUSABLE if dry else FAILED)  # a dry run trains nothing: it is the input's fault
    except OSError as error:
        return _say(error, UNUSABLE) if dry else _say(f"{error}; the checkpoints before it are whole", FAILED)
    except ValueError as error:
        return _say(error, UNUSABLE)
    except KeyboardInterrupt:
        return _say("interrupted; the same command continues from the newest checkpoint", INTERRUPTED)
    except (Exception, SystemExit) as error:  # nothing below may end the process as if all were well
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            return _say(f"{error}; take a smaller batch_size, or gradient_checkpointing", FAILED)
        if debug:
            traceback.print_exc()
        what = one_line(" ".join(f"{type(error).__name__}: {error}".split()))
        advice = "" if debug else "run again with --debug for the traceback, and "
        return _say(f"internal error: {what}; {advice}report it at {ISSUES}", INTERNAL)
    for line in text.splitlines():  # a stdout that cannot be written is the caller's matter
        print(one_line(line, _MOST_SHOWN))
    return 0


def _check_launched() -> None:
    """Refuse what no launcher would write, and a working directory that was deleted, where libraries ask for both."""
    check_readable_path(".")
    for name in _NUMBERS_OF_A_LAUNCHER:
        text = os.environ.get(name)
        if text is not None and not (text.isascii() and text.isdigit()):
            raise ValueError(f"{name}: {text!r} is no whole number; unset it in the environment, or use a launcher")


def _say(message: object, code: int) -> int:
    say(one_line(" ".join(str(message).split()), _MOST_SHOWN))
    return code


def main() -> None:
    """Entry point of the command."""
    app(prog_name="theworld-train")


if __name__ == "__main__":
    main()
