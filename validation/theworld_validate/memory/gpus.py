"""Does it fit? GPUs by name, and what would make a cell fit that does not.

In: a cell, a predictor and a GPU's memory. Out: the margin, and levers with the cheapest in time first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from theworld_validate.memory.cells import Cell
from theworld_validate.memory.predict import Predicted, Predictor
from theworld_validate.results import InputError, did_you_mean

GIB = 2**30
# What the driver reports as total, rounded down to a tenth.
GPUS = {"h200": 139.7, "h100-80g": 79.1, "a100-80g": 79.1, "a100-40g": 39.3, "l4": 22.0, "rtx4090": 23.5}
# The CUDA context and the libraries' code lie outside the caching allocator.
CONTEXT_BYTES = GIB
# Of the GPU's memory: what a prediction may be short by before "it fits" is wrong.
SAFETY = 0.02


def gpu_bytes(name: str) -> int:
    """What the caching allocator may reserve on a GPU, given by name or as a number of GiB.

    Raises:
        InputError: if it is neither.
    """
    gib = GPUS.get(name.lower())
    if gib is None:
        try:
            gib = float(name)
        except ValueError as error:
            hint = did_you_mean(name.lower(), GPUS)
            raise InputError(f"--gpu {name}: no such GPU; give {', '.join(GPUS)} or a number of GiB{hint}") from error
        if not 0 < gib < float("inf"):
            raise InputError(f"--gpu {name}: give a number of GiB above 0")
    return int(gib * GIB * (1 - SAFETY)) - CONTEXT_BYTES


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
    side = cell.frame_size // 8
    return replace(cell, world_tokens=(side // 2) ** 2) if side >= 4 else None


LEVERS = (
    Lever(
        title="8-bit optimizer",
        apply=lambda cell: replace(cell, optimizer="adamw-8bit") if cell.optimizer == "adamw" else None,
        step_time=None,
    ),
    Lever(
        title="no mixed precision",
        apply=lambda cell: replace(cell, precision="bfloat16") if cell.precision == "mixed" else None,
        step_time=0.92,
    ),
    Lever(title="a clip of half the side", apply=_smaller_clip, step_time=None),
    Lever(
        title="chunked loss",
        apply=lambda cell: None if cell.chunked_loss else replace(cell, chunked_loss=True),
        step_time=1.00,
    ),
    Lever(
        title="gradient checkpointing",
        apply=lambda cell: None if cell.checkpointing else replace(cell, checkpointing=True),
        step_time=1.41,
    ),
)


def find_levers(predictor: Predictor, cell: Cell, **options: Any) -> list[tuple[str, float | None, Predicted]]:
    """What makes a cell fit: single levers, or pairs where none is enough alone; the cheapest in time first.

    Args:
        options: those of `Predictor.predict`, with a capacity.

    Returns:
        (levers, step time over the plain step's, prediction), for those that fit.
    """
    changes = [(lever, changed) for lever in LEVERS if (changed := lever.apply(cell)) is not None]
    tried = [([lever], changed) for lever, changed in changes]
    fitting = _those_that_fit(predictor, tried, options)
    if not fitting:
        pairs = [
            ([one, other], changed)
            for i, (one, first) in enumerate(changes)
            for other, _ in changes[i + 1 :]
            if (changed := other.apply(first)) is not None
        ]
        fitting = _those_that_fit(predictor, pairs, options)
    return sorted(fitting, key=lambda found: (found[1] is None, found[1] or 0.0))


def _those_that_fit(
    predictor: Predictor, tried: list[tuple[list[Lever], Cell]], options: dict[str, Any]
) -> list[tuple[str, float | None, Predicted]]:
    fitting = []
    for levers, changed in tried:
        predicted = predictor.predict(changed, **options)
        if predicted.fits:
            times = [lever.step_time for lever in levers]
            known = [time for time in times if time is not None]
            cost = None if len(known) < len(times) else _product(known)
            fitting.append((" + ".join(lever.title for lever in levers), cost, predicted))
    return fitting


def _product(values: list[float]) -> float:
    product = 1.0
    for value in values:
        product *= value
    return product


def check_sweep(over: str | None) -> str | None:
    """Return what a sweep goes over.

    Raises:
        InputError: for anything but batch, text and world.
    """
    if over not in (None, "batch", "text", "world"):
        raise InputError(f"--sweep {over}: give batch, text or world")
    return over


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
    for _ in range(5 if capacity_bytes is None else 12):
        try:
            fits = at(size).fits
        except InputError:  # longer than the model's positions
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
    return {"batch": cell.batch, "text": cell.text_tokens, "world": cell.frame_size // 8}[over]


def _with_size(cell: Cell, over: str, size: int) -> Cell:
    if over == "batch":
        return replace(cell, batch=size)
    return replace(cell, text_tokens=size) if over == "text" else replace(cell, world_tokens=size**2)
