"""`theworld-train CONFIG`, `python -m theworld.training CONFIG`, `accelerate launch -m theworld.training CONFIG`.

In: a config. Out: an exit code: 0 all stages are finished, 1 training failed, 2 the config or its files cannot be used,
130 interrupted. Heavy imports wait until the config is read.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML or JSON; docs/training.md lists the keys.")],
    resume: Annotated[
        bool, typer.Option("--resume/--from-scratch", help="Continue a run in output_dir, or remove it and begin anew.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check config and data, say what would be done.")] = False,
) -> None:
    """Train TheWorld in stages."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    rank = int(os.environ.get("RANK", "0"))
    logging.getLogger("theworld.training").setLevel(logging.INFO if rank == 0 else logging.WARNING)
    raise SystemExit(_answer(config, resume=resume, dry=dry_run))


def _answer(path: Path, *, resume: bool, dry: bool) -> int:
    from theworld.training.config import FailedError, read_config

    try:
        config = read_config(path)
        from theworld.training import run as runner

        if dry:
            print(runner.dry_run(config))
        else:
            runner.run(config, from_scratch=not resume)
    except FailedError as error:
        return _say(error, UNUSABLE if dry else FAILED)  # a dry run trains nothing: it is the input's fault
    except OSError as error:
        return _say(f"{error}; the checkpoints before it are whole", FAILED)
    except ValueError as error:
        return _say(error, UNUSABLE)
    except KeyboardInterrupt:
        return _say("interrupted; the same command continues from the newest checkpoint", INTERRUPTED)
    return 0


def _say(message: object, code: int) -> int:
    print(" ".join(str(message).split()), file=sys.stderr, flush=True)
    return code


def main() -> None:
    """Entry point of the command."""
    app(prog_name="theworld-train")


if __name__ == "__main__":
    main()
