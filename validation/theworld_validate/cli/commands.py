"""The command line's own behaviour: wrong usage as one line, and commands in groups by what people do with them.

In: what was typed. Out: a command that runs, or one line on stderr that names the option and the fix, and exit code 2.
"""

from typing import Any

import typer

from theworld.command_line import run_command

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
        return run_command(super().main, *args, **given)


def _flags_bare(parameters: list[Any]) -> list[Any]:
    """Have help show a flag as it is typed: typer writes `--json <bool>`, and it takes no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters
