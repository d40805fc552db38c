"""theworld-validate: parse, dispatch, exit code. Heavy imports happen inside the commands."""

import io
import os
import sys

from theworld_validate.cli import (
    audit_commands,
    memory_commands,
    model_commands,
    parity_commands,
    regress_command,
    releases_command,
    scan_command,
)
from theworld_validate.cli.app import app
from theworld_validate.results import INPUT_ERROR_CODE

__all__ = [
    "app",
    "audit_commands",
    "main",
    "memory_commands",
    "model_commands",
    "parity_commands",
    "regress_command",
    "releases_command",
    "scan_command",
]


def main() -> None:
    """Entry point of the `theworld-validate` command."""
    _reopen_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="theworld-validate", obj=["theworld-validate", *sys.argv[1:]])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody reads it, or there is no room: no pass was delivered
                code = code or INPUT_ERROR_CODE
        if "theworld_validate.workers.pool" in sys.modules:
            from theworld_validate.workers.pool import end_server

            end_server()
        os._exit(code)


def _reopen_streams() -> None:
    """Put something into the place of streams that are closed, before a file that is opened takes it.

    Writing to stdout still fails, as a report that nobody gets should.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))
