"""What would make a cell fit that does not, and how large a cell may grow.

In: a predictor, a cell and a capacity. Out: levers with the cheapest in time first, or predictions in order of size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from theworld_validate.memory.cells import NF4, RANGES, ROLLOUT, STEPS, SWEEPS, TRAIN, Cell
from theworld_validate.memory.outcomes import Predicted, Way
from theworld_validate.memory.predict import Predictor
from theworld_validate.results import InputError

_MAX_POINTS = 5  # of a sweep without a capacity
_MAX_DOUBLINGS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One change of a cell.

    Args:
        title: for people.
        apply: gives the changed cell; None where it changes nothing.
        step_time: measured on an H200 at the 4B geometry and 784 world tokens: the step's time over the plain
            step's, median over the freeze presets (of the chunked loss: projection with checkpointing, by
            `benchmarks/step_times.py`); None where it was not measured.
    """

    title: str
    apply: Callable[[Cell], Cell | None]
    step_time: float | None


def _smaller_clip(cell: Cell) -> Cell | None:
    unit = _cells_a_size(cell)
    side = cell.grid_side // 2 // unit * unit
    return replace(cell, world_tokens=side**2) if side >= 2 else None


def _has_plain_loss(cell: Cell) -> bool:
    return cell.task in STEPS and cell.is_the_worlds and not cell.chunked_loss


def _cells_a_size(cell: Cell) -> int:
    """A rollout's latent grid has even sides."""
    return 2 if cell.task == ROLLOUT else 1


def _training(change: Callable[[Cell], Cell | None]) -> Callable[[Cell], Cell | None]:
    """A change that only a training step knows."""
    return lambda cell: change(cell) if cell.task == TRAIN else None


LEVERS = (
    Lever(
        title="8-bit optimizer",
        apply=_training(
            lambda cell: (
                replace(cell, optimizer="adamw-8bit")
                if cell.optimizer == "adamw" and not cell.offload_optimizer and cell.num_gpus == 1
                else None
            )
        ),
        step_time=None,
    ),
    Lever(
        title="frozen layers in 4 bit",
        apply=lambda cell: replace(cell, quantization=NF4) if cell.adapter and cell.quantization != NF4 else None,
        step_time=None,
    ),
    Lever(
        title="no mixed precision",
        apply=_training(lambda cell: replace(cell, precision="bfloat16") if cell.precision == "mixed" else None),
        step_time=0.92,
    ),
    Lever(
        title="offload",
        apply=lambda cell: replace(cell, offload=True) if cell.task == ROLLOUT and not cell.offload else None,
        step_time=None,
    ),
    Lever(title="a clip of half the side", apply=_smaller_clip, step_time=None),
    Lever(
        title="chunked loss",
        apply=lambda cell: replace(cell, chunked_loss=True) if _has_plain_loss(cell) else None,
        step_time=1.00,
    ),
    Lever(
        title="gradient checkpointing",
        apply=_training(lambda cell: None if cell.checkpointing else replace(cell, checkpointing=True)),
        step_time=1.41,
    ),
)


def find_levers(
    predictor: Predictor, cell: Cell, *, capacity_bytes: int, expandable_segments: bool = False
) -> list[Way]:
    """What makes a cell fit: single levers, or pairs where none is enough alone; the cheapest in time first."""

    def fitting(tried: list[tuple[tuple[Lever, ...], Cell]]) -> list[Way]:
        ways = []
        for levers, changed in tried:
            try:
                predicted = predictor.predict(
                    changed, capacity_bytes=capacity_bytes, expandable_segments=expandable_segments
                )
            except Exception:  # a lever that the model does not take is none; the answer about the cell stands
                continue
            if predicted.fits:
                title = " + ".join(lever.title for lever in levers)
                ways.append(Way(title=title, step_time=_step_time(levers), predicted=predicted))
        return ways

    changes = [(lever, changed) for lever in LEVERS if (changed := lever.apply(cell)) is not None]
    ways = fitting([((lever,), changed) for lever, changed in changes])
    if not ways:
        ways = fitting(
            [
                ((one, other), changed)
                for i, (one, first) in enumerate(changes)
                for other, _ in changes[i + 1 :]
                if (changed := other.apply(first)) is not None
            ]
        )
    return sorted(ways, key=lambda way: (way.step_time is None, way.step_time or 0.0))


def _step_time(levers: tuple[Lever, ...]) -> float | None:
    times = [lever.step_time for lever in levers]
    known = [time for time in times if time is not None]
    return math.prod(known) if len(known) == len(times) else None


def sweep(
    predictor: Predictor, cell: Cell, over: str, *, capacity_bytes: int | None, expandable_segments: bool = False
) -> list[Predicted]:
    """Predict a cell over growing batches, texts or clips: doubling until it no longer fits, then in between.

    Args:
        over: "batch", "text" or "world".
        capacity_bytes: None stops after five points.

    Returns:
        Predictions in order of size; the largest that fits is the last whose `fits` is True.
    """
    seen: dict[int, Predicted] = {}

    def at(size: int) -> Predicted:
        if size not in seen:
            sized = _with_size(cell, over, size)
            seen[size] = predictor.predict(
                sized, capacity_bytes=capacity_bytes, expandable_segments=expandable_segments
            )
        return seen[size]

    low = size = _size_of(cell, over)
    for _ in range(_MAX_POINTS if capacity_bytes is None else _MAX_DOUBLINGS):
        if not _is_in_range(over, size):
            break
        try:
            fits = at(size).fits
        except InputError:  # longer than the model's positions
            if not seen:
                raise
            break
        if fits is False:
            break
        low, size = size, size * 2
    high = size
    while seen and at(low).fits and high in seen and high - low > max(low // 8, 1):
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).fits else (low, middle)
    return [seen[size] for size in sorted(seen)]


def _size_of(cell: Cell, over: str) -> int:
    return {"batch": cell.batch, "text": cell.text_tokens, "world": cell.grid_side // _cells_a_size(cell)}[over]


def _with_size(cell: Cell, over: str, size: int) -> Cell:
    if over == "batch":
        return replace(cell, batch=size)
    return (
        replace(cell, text_tokens=size)
        if over == "text"
        else replace(cell, world_tokens=(size * _cells_a_size(cell)) ** 2)
    )


def _is_in_range(over: str, size: int) -> bool:
    return (size**2 if over == "world" else size) <= RANGES[SWEEPS[over]][1]
