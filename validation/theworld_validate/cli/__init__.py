"""theworld-validate: parse, dispatch, exit code. Heavy imports happen inside the commands."""

from theworld_validate.cli import audit_commands, memory_commands, model_commands, parity_commands, regress_command
from theworld_validate.cli.app import app

__all__ = ["app", "audit_commands", "main", "memory_commands", "model_commands", "parity_commands", "regress_command"]


def main() -> None:
    """Entry point of the `theworld-validate` command."""
    app(prog_name="theworld-validate")
