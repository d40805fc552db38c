"""What a report may take more than its baseline, from a TOML file.

In: a path. Out: `Limits`, every value of them finite and in its range, or one line that names the key.
"""

from dataclasses import dataclass
from pathlib import Path

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.documents.reading import read_toml
from theworld_validate.results import InputError

MAX_BYTES = 2**20
TIME_GROWTH = 0.20  # where the file has a [time] section that does not say
_KEYS = {
    ("memory", "growth"): ("memory_growth", 100.0),
    ("time", "growth"): ("time_growth", 100.0),
    ("time", "min_seconds"): ("min_seconds", 1e6),
}  # section and key -> field of `Limits`, and the most that it can be
_NAMES = [".".join(key) for key in _KEYS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may grow by how much.

    Args:
        memory_growth: share by which a peak of memory may grow.
        time_growth: share by which a time may grow, as a ratio to the calibration run of its process; None shows
            times and judges none.
        min_seconds: checks and steps that took less in the baseline are not timed.
    """

    memory_growth: float = 0.02
    time_growth: float | None = None
    min_seconds: float = 5.0


def read_limits(path: Path | None) -> Limits:
    """Read a file of limits: [memory] growth, [time] growth and min_seconds; the defaults if None.

    Times are judged only where the file has a [time] section.

    Raises:
        InputError: for a file that cannot be read, an unknown key, or a value that is out of its range.
    """
    from theworld.checkpoints.error_text import one_line, shown_name

    if path is None:
        return Limits()
    where = one_line(path)
    try:
        table = read_toml(path, max_bytes=MAX_BYTES)
        given = {"time_growth": TIME_GROWTH} if "time" in table else {}
        for section, entries in table.items():
            if section not in {known for known, _ in _KEYS}:
                raise InputError(f"{where}: unknown section {shown_name(repr(section))}; there are memory and time")
            if not isinstance(entries, dict):
                raise InputError(f"{where}: {section} must be a section: [{section}], then growth = 0.05")
            for name, value in entries.items():
                if (section, name) not in _KEYS:
                    hint = did_you_mean(f"{section}.{name[:100]}", _NAMES, f"; there are {', '.join(_NAMES)}")
                    raise InputError(f"{where}: unknown key {section}.{shown_name(name)}{hint}")
                field, most = _KEYS[section, name]
                given[field] = _number(value, most, f"{where}: {section}.{name}")
    except InputError as error:
        raise InputError(f"--budget {error}") from error
    return Limits(**given)


def _number(value: object, most: float, where: str) -> float:
    from theworld.checkpoints.error_text import one_line

    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= most):  # which NaN is not
        is_long = isinstance(value, int) and abs(value) >= 10**30
        shown = f"one of {value.bit_length():,} bits" if is_long else one_line(value, 40)
        raise InputError(f"{where} must be a number from 0 to {most:g}, got {shown}")
    return float(value)
