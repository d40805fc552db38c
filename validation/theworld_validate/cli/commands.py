"""The command line's own behaviour: wrong usage as one line, and commands in groups by what people do with them.

In: what was typed. Out: a command that runs, or one line on stderr that names the option and the fix, and exit code 2.
"""

import shlex
import sys
from typing import Any

import typer

from theworld_validate.cli.session import say
from theworld_validate.results import INPUT_ERROR_CODE, INTERRUPTED_CODE

# Panels of --help, in their order.
COMPARE = "Is it the same model?"
AUDIT = "Audit one model"
TRAINING = "Training and GPU memory"
RELEASES = "Releases, reports and baselines"
TOOL = "This tool"
PANELS = (COMPARE, AUDIT, TRAINING, RELEASES, TOOL)
# Panels of a command's options; its own come first.
LOADED = "What is loaded, and how"
REPORTED = "The report, and how the command runs"


class Commands(typer.core.TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands' names, panel by panel, in the order in which they were added."""

        def place(name: str) -> int:
            panel = getattr(self.commands[name], "rich_help_panel", None)
            return PANELS.index(panel) if panel in PANELS else len(PANELS)

        return sorted(super().list_commands(ctx), key=place)

    def get_params(self, ctx: Any) -> list[Any]:
        """The group's own options, flags without a value's type."""
        return _flags_bare(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, flags without a value's type."""
        if (command := super().get_command(ctx, cmd_name)) is not None:
            _flags_bare(command.get_params(ctx))
        return command

    def main(self, *args: Any, standalone_mode: bool = True, **given: Any) -> Any:
        """Run a command and end the process; wrong usage is one line."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **given)
        try:
            code = super().main(*args, standalone_mode=False, **given)
        except typer.Abort:
            say("interrupted")
            sys.exit(INTERRUPTED_CODE)
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # help or a list, of which the reader has seen enough
                sys.exit(0)
            raise
        except Exception as error:
            if not hasattr(error, "format_message"):  # what every error of wrong usage has
                raise
            say(f"error: {describe_usage_error(error)}")
            sys.exit(INPUT_ERROR_CODE)
        sys.exit(code if isinstance(code, int) else 0)


def _flags_bare(parameters: list[Any]) -> list[Any]:
    """Have help show a flag as it is typed: typer writes `--json <bool>`, and it takes no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def describe_usage_error(error: Any) -> str:
    """One line for what was typed wrongly: the option or argument, what is wrong with it, and where its help is."""
    from theworld.checkpoints.error_text import did_you_mean, one_line

    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "theworld-validate"
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
