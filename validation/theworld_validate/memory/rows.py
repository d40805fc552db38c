"""Tables of the memory checks: every row of one table has the same columns, with None for what is not known.

In: what was predicted or measured. Out: rows of a check's measurements.
"""

from collections.abc import Iterable, Sequence

from theworld_validate.memory.cells import EVALUATE, OWN_FIELDS, TRAIN, Cell
from theworld_validate.memory.history import CALL_KINDS, KINDS
from theworld_validate.memory.inference import CALL_PHASES
from theworld_validate.memory.outcomes import Measured, Predicted, Prediction
from theworld_validate.results import Row, Scalar

PHASES = ("forward", "backward", "optimizer", "zero_grad")
_WORKLOAD = ("frames", "new_tokens", "world_steps", "denoising_steps")  # of calls, beside what every cell has
Known = Predicted | Measured


def predicted_row(result: Predicted) -> Row:
    """A prediction, in one row."""
    return {
        **_peaks(result),
        "least_bytes": result.least_bytes,
        "host_bytes": result.host_bytes,
        "fits": result.fits,
    }


def measured_row(result: Measured) -> Row:
    """A measurement, in one row."""
    return {
        **_peaks(result),
        "step_seconds": result.step_seconds,
        "activation_bytes": result.activation_bytes,
        "driver_bytes": result.driver_bytes,
        "floor_bytes": result.floor_bytes,
        "out_of_memory": result.out_of_memory,
    }


def phases_of(cells: Iterable[Cell], training: Sequence[str] = PHASES) -> tuple[str, ...]:
    """The phases that cells go through, each once; `training` is what is told of a training step's."""
    own = {**CALL_PHASES, EVALUATE: training[:1]}
    every = [phase for task in dict.fromkeys(cell.task for cell in cells) for phase in own.get(task, training)]
    return tuple(dict.fromkeys(every))


def phase_rows(results: Iterable[Known], phases: Sequence[str]) -> list[Row]:
    """Peaks of each phase, of the cells that came as far as any."""
    return [
        {**workload(one.cell), **{f"{phase}_bytes": one.phase_peaks_bytes.get(phase) for phase in phases}}
        for one in results
        if one.phase_peaks_bytes
    ]


def split_rows(results: Iterable[Known]) -> list[Row]:
    """Who owns the bytes at the peak, of the cells that have one."""
    found = [one for one in results if one.split_bytes]
    own = [kinds for kinds, is_theirs in ((KINDS, True), (CALL_KINDS, False)) if _has(found, training=is_theirs)]
    kinds = (*dict.fromkeys(kind for some in own for kind in some), "rounding")
    return [
        {**workload(one.cell), **{f"{kind}_bytes": one.split_bytes.get(kind, 0) for kind in kinds}} for one in found
    ]


def _has(results: Iterable[Known], *, training: bool) -> bool:
    return any((one.cell.task == TRAIN) == training for one in results)


def owner_rows(results: Iterable[Known]) -> list[Row]:
    """The largest blocks at the peaks."""
    return [
        {"owner": asked_by, "size_bytes": size, "kind": kind, **workload(one.cell)}
        for one in results
        for kind, size, asked_by in one.owners
    ]


def timeline_rows(results: Iterable[Predicted]) -> list[Row]:
    """Allocated bytes over a step, to be drawn."""
    return [{**workload(one.cell), "bytes": list[Scalar](one.timeline_bytes)} for one in results if one.timeline_bytes]


def lever_rows(predictions: Iterable[Prediction]) -> list[Row]:
    """What would make cells fit."""
    return [
        {
            "cell": prediction.cell.title,
            "with": way.title,
            "peak_reserved_bytes": way.predicted.peak_reserved_bytes,
            "step_time": way.step_time,
        }
        for prediction in predictions
        for way in prediction.ways
    ]


def curve_rows(predictions: Iterable[Prediction], field: str) -> list[Row]:
    """Sweeps as lines to draw, each with the largest size that fits; points without a peak are left out."""
    rows = list[Row]()
    for prediction in predictions:
        points = [result for result in prediction.results if result.peak_allocated_bytes is not None]
        if not points:
            continue
        fitting = [getattr(result.cell, field) for result in points if result.fits]
        rows.append(
            {
                "configuration": prediction.cell.name,
                "over": field,
                "largest_that_fits": max(fitting, default=None),
                "sizes": [getattr(result.cell, field) for result in points],
                "peak_allocated_bytes": [result.peak_allocated_bytes for result in points],
                "peak_reserved_bytes": [result.peak_reserved_bytes for result in points],
            }
        )
    return rows


def workload(cell: Cell) -> Row:
    """What names a row: the configuration, and the sizes that its task has."""
    return {
        "configuration": cell.name,
        "world_tokens": cell.world_tokens,
        "text_tokens": cell.text_tokens,
        "batch": cell.batch,
        **{name: getattr(cell, name) for name in _WORKLOAD if name in OWN_FIELDS[cell.task]},
    }


def _peaks(result: Known) -> Row:
    return {
        **workload(result.cell),
        "peak_allocated_bytes": result.peak_allocated_bytes,
        "peak_reserved_bytes": result.peak_reserved_bytes,
    }
