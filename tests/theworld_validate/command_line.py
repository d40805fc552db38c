"""The command line, called in this process."""

from typer.testing import CliRunner, Result

from theworld_validate.cli import app


def invoke(*arguments: object) -> Result:
    """Call a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_input_error(result: Result, *parts: str) -> None:
    """Hold a result against what bad input gets: exit code 2, and one line that has all the parts."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert result.stdout == ""
