"""How long the rows of a run are, step by step.

In: a distribution, or a file of numbers. Out: `Lengths`.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from theworld.checkpoints.error_text import one_line
from theworld_validate.memory.cells import RANGES, shown_value
from theworld_validate.results import InputError

MAX_STEPS = 10_000
DEFAULT_STEPS = 200
_MAX_FILE_BYTES = 64 << 20
_LEAST, _MOST = RANGES["text_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The rows of a run.

    Args:
        title: where they are from, for people.
        values: tokens of text of the rows of each step.
    """

    title: str
    values: tuple[int, ...]


def read_lengths(spec: str, *, num_steps: int | None = None, seed: int = 0) -> Lengths:
    """Lengths of `uniform:LEAST:MOST`, drawn with a seed, or of a file with one number of text tokens a line.

    Args:
        num_steps: how many; a file is cut, or begun anew. None for as many as a file has, else `DEFAULT_STEPS`.

    Raises:
        InputError: if there are no such lengths; of a file, with the line.
    """
    if num_steps is not None and not 1 <= num_steps <= MAX_STEPS:
        raise InputError(f"--steps {shown_value(num_steps)}: give a whole number from 1 to {MAX_STEPS:,}")
    if spec.startswith("uniform:"):
        return _uniform(spec, DEFAULT_STEPS if num_steps is None else num_steps, seed)
    return _of_file(Path(spec), num_steps)


def _uniform(spec: str, num_steps: int, seed: int) -> Lengths:
    found = re.fullmatch(r"uniform:([0-9]{1,9}):([0-9]{1,9})", spec)
    if found is None or not _LEAST <= int(found[1]) <= int(found[2]) <= _MOST:
        raise InputError(
            f"--lengths {shown_value(spec)}: give uniform:LEAST:MOST, whole numbers of text tokens from {_LEAST:,} to "
            f"{_MOST:,}, or a file"
        )
    drawn, least, most = random.Random(seed), int(found[1]), int(found[2])
    values = tuple(drawn.randint(least, most) for _ in range(num_steps))
    return Lengths(
        title=f"{num_steps:,} steps of {least:,} to {most:,} text tokens, uniform, seed {seed}", values=values
    )


def _of_file(path: Path, num_steps: int | None) -> Lengths:
    where = f"--lengths {one_line(path)}"
    try:
        if not path.is_file():
            raise InputError(f"{where}: no such file; give one, or uniform:LEAST:MOST")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{where}: more than {_MAX_FILE_BYTES >> 20} MiB; give a file with one number a line")
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: no text in UTF-8; give a file with one number a line") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    values = [_length(line.strip(), f"{where}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not values:
        raise InputError(f"{where}: empty; give one number of text tokens a line")
    if num_steps is None and len(values) > MAX_STEPS:
        raise InputError(f"{where}: {len(values):,} lines; give --steps, up to {MAX_STEPS:,}, for the first of them")
    wanted = len(values) if num_steps is None else num_steps
    used = tuple(values[i % len(values)] for i in range(wanted))
    title = f"{wanted:,} steps of {min(used):,} to {max(used):,} text tokens, of {one_line(path.name)}"
    if wanted < len(values):
        title += f", cut from its {len(values):,}"
    elif wanted > len(values):
        title += f", its {len(values):,} again and again"
    return Lengths(title=title, values=used)


def _length(line: str, where: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", line) or not _LEAST <= int(line) <= _MOST:
        raise InputError(
            f"{where}: '{shown_value(line)}' is no whole number of text tokens from {_LEAST:,} to {_MOST:,}; correct it"
        )
    return int(line)
