"""The axis that drawings of bytes share: round steps from 0, the last one with the unit of all.

In: the greatest number of bytes that is drawn. Out: ticks, as shares of the axis's length.
"""

import math
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)
_MOST_STEPS = 6
_FAR = 4
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One step of an axis: its place in percent, and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From 0 to `end_bytes`, the last tick's value."""

    end_bytes: float
    ticks: tuple[Tick, ...]

    def share(self, num_bytes: float) -> float:
        """How far along the axis a number of bytes lies, in percent."""
        return 100 * num_bytes / self.end_bytes


def axis_to(num_bytes: float) -> Axis:
    """The axis on which all numbers up to this one lie; of at most seven ticks."""
    num_bytes = max(num_bytes, _MOST_STEPS)  # a step is a byte at least
    power = 10.0 ** math.floor(math.log10(num_bytes / _MOST_STEPS))
    step = next(one * power for one in (*_STEPS, 20) if math.ceil(num_bytes / (one * power)) <= _MOST_STEPS)
    num_steps = math.ceil(num_bytes / step)
    unit = min(int(math.log10(num_steps * step) / 3), len(_UNITS) - 1)
    ticks = [
        Tick(at=100 * i / num_steps, text=f"{i * step / 1000**unit:g}" + (f" {_UNITS[unit]}" if i == num_steps else ""))
        for i in range(num_steps + 1)
    ]
    return Axis(end_bytes=num_steps * step, ticks=tuple(ticks))


def axis_with_limit(num_bytes: int, limit_bytes: int | None) -> Axis:
    """The axis that reaches a limit too, unless that is so far above everything that it would flatten it."""
    limit_bytes = limit_bytes or 0
    return axis_to(max(num_bytes, limit_bytes) if limit_bytes <= _FAR * num_bytes else num_bytes)
