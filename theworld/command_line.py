"""What both commands do with what was typed wrongly, and with a stdout that cannot be written.

In: a function that parses and runs. Out: the end of the process: its exit code, or one line on stderr and 2 or 130.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import typer

from theworld.checkpoints.error_text import did_you_mean, one_line

ISSUES = "https://github.com/theworld/theworld/issues"
FAILED_CODE, USAGE_CODE, INTERRUPTED_CODE = 1, 2, 130


def run_command(main: Callable[..., Any], *args: Any, **given: Any) -> NoReturn:
    """Run the `main` of a command of typer's, not in its standalone mode, and end the process."""
    typed = args[0] if args else given.get("args")
    if (name := _empty_one(sys.argv[1:] if typed is None else typed)) is not None:
        say(f"error: {name} is empty; give a value, or leave it out")
        sys.exit(USAGE_CODE)
    try:
        try:
            code = main(*args, standalone_mode=False, **given)
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # help or a list, of which the reader has seen enough
                sys.exit(0)
            code = end.code
            if code is not None and not isinstance(code, int):  # a text, which Python itself would print
                say(f"error: {one_line(code)}")
                code = FAILED_CODE
        if sys.stdout is not None:
            sys.stdout.flush()  # now, and not when nobody answers for it any more
    except typer.Abort:
        say("interrupted")
        sys.exit(INTERRUPTED_CODE)
    except BrokenPipeError:
        forget_stdout()
        sys.exit(USAGE_CODE)
    except OSError as error:
        say(f"error: stdout: cannot be written ({error.strerror or error}); free some space or name another place")
        forget_stdout()
        sys.exit(USAGE_CODE)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what every error of wrong usage has
            raise
        say(f"error: {describe_usage_error(error)}")
        sys.exit(USAGE_CODE)
    sys.exit(code if isinstance(code, int) else 0)


def _empty_one(typed: Sequence[str]) -> str | None:
    """The option or argument whose value is an empty text, as a shell makes it of a variable that is not set."""
    for before, text in pairwise(("", *typed)):
        if not text:
            return before if before.startswith("--") else "an argument"
        if text.startswith("--") and text.endswith("=") and text.count("=") == 1:
            return one_line(text[:-1])
    return None


def say(line: str) -> None:
    """Write a line to stderr, if there is one."""
    with contextlib.suppress(OSError, AttributeError):  # nobody listens
        print(line, file=sys.stderr, flush=True)


def forget_stdout() -> None:
    """Nobody reads stdout, or it cannot be written: nothing may be tried again when the process ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe_usage_error(error: Any) -> str:
    """One line for what was typed wrongly: the option or argument, what is wrong with it, and where its help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "the command's"
    parameter = getattr(error, "param", None)
    name = _name_of(parameter) if parameter is not None else ""
    kind = type(error).__name__
    if kind == "NoSuchOption":
        known = _options_of(context)
        text = f"{error.option_name}: there is no such option{did_you_mean(error.option_name, known)}"
    elif kind == "MissingParameter":
        text = f"{name} is missing; {_usage_of(context)}"
    elif name:
        text = f"{name}: {_plain(error.message)}"
    else:
        text = _plain(error.format_message())
    return one_line(f"{text}; see {path} --help", 1000)


def _name_of(parameter: Any) -> str:
    """As it is typed: --dtype, or an argument's word."""
    options = [option for option in parameter.opts if option.startswith("--")]
    return str(options[0] if options else parameter.metavar or parameter.name)


def _options_of(context: Any) -> list[str]:
    if context is None:
        return []
    return [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]


def _usage_of(context: Any) -> str:
    if context is None:
        return "name it"
    arguments = [_name_of(parameter) for parameter in context.command.params if parameter.param_type_name == "argument"]
    needed = [f"{_name_of(one)} ..." for one in context.command.params if _is_needed_option(one)]
    return f"give {shlex.join(context.command_path.split())} {' '.join([*needed, *arguments])}"


def _is_needed_option(parameter: Any) -> bool:
    return parameter.param_type_name == "option" and parameter.required


def _plain(message: str) -> str:
    """A message without the parser's own words, and without its full stop."""
    text = message.strip().removeprefix("Value error, ").rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
