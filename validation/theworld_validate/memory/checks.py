"""The two memory commands as checks: rows of a table, findings, and what fits.

In: cells and what was measured or predicted of them. Out: check results.
"""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from theworld_validate.memory.answers import Question, answer_all
from theworld_validate.memory.budget import Budget, find_overruns
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.predict import Predicted
from theworld_validate.results import CheckResult, Finding, Status

Progress = Callable[[str], None]


def check_predicted(
    config: Any,
    cells: Sequence[Cell],
    *,
    gpu: str | None = None,
    capacity_bytes: int | None = None,
    sweep_over: str | None = None,
    expandable_segments: bool = False,
    budgets: Sequence[Budget] = (),
    num_processes: int = 1,
    progress: Progress = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Predict cells; say which fit, and what would make the others fit.

    Args:
        config: a `TheWorldConfig` with a world branch.
        gpu, capacity_bytes: a GPU's name, and what may be reserved on it.
        sweep_over: "batch", "text" or "world": each cell over growing sizes, in place of the cell alone.
        num_processes: that share the cells.
    """
    started = time.perf_counter()
    question = Question(capacity_bytes=capacity_bytes, sweep_over=sweep_over, expandable_segments=expandable_segments)
    answers = answer_all(config, cells, question, num_processes=num_processes, progress=progress)
    results = [result for answer in answers for result in answer.results]
    levers = [
        {"cell": cell.title, "with": title, "peak_reserved_bytes": found.peak_reserved_bytes, "step_time": cost}
        for cell, answer in zip(cells, answers, strict=True)
        for title, cost, found in answer.levers
    ]
    gpu = f"{gpu} GiB" if gpu is not None and gpu[0].isdigit() else gpu
    findings = find_overruns(budgets, results)
    measurements: dict[str, Any] = {
        "compared": len(results),
        "gpu": gpu,
        "capacity_bytes": capacity_bytes,
        "cells": [_row(result) for result in results],
        "phase_peaks": [_phases(result) for result in results],
        "splits": [{**_workload(result.cell), **_kinds(result.split_bytes)} for result in results],
        "owners": _owners(results),
        "timelines": [{**_workload(result.cell), "bytes": list(result.timeline_bytes)} for result in results],
    }
    if sweep_over is not None:
        measurements["sweep_over"] = sweep_over
        measurements["curves"] = [_curve(answer.results, sweep_over) for answer in answers]
    if capacity_bytes is not None and sweep_over is None:
        findings += [_does_not_fit(result, gpu, capacity_bytes, levers) for result in results if not result.fits]
        measurements["levers"] = levers
    return (_check("memory.predict", measurements, findings, started),)


def check_measured(
    model: Any,
    cells: Sequence[Cell],
    *,
    budgets: Sequence[Budget] = (),
    snapshots: Any = None,
    progress: Progress = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Measure cells on the model's CUDA device; the floor must return to the same byte between them."""
    from theworld_validate.memory.measure import measure_cells

    started = time.perf_counter()
    results = measure_cells(model, cells, snapshots=snapshots, progress=progress)
    findings = find_overruns(budgets, results)
    findings += [
        Finding(
            code="memory.out_of_memory",
            severity="warning",
            location=result.cell.title,
            message=f"{result.cell.title} ran out of memory in the phase {result.out_of_memory}",
            cause="it takes more than this GPU has",
            remedy="theworld-validate memory predict --gpu NAME says what would make it fit",
        )
        for result in results
        if result.out_of_memory is not None
    ]
    findings += _moved_floors(results)
    rows = [
        {
            **_row(result),
            "step_seconds": result.step_seconds,
            "activation_bytes": result.activation_bytes,
            "driver_bytes": result.driver_bytes,
            "floor_bytes": result.floor_bytes,
        }
        for result in results
    ]
    measurements = {
        "compared": sum(result.out_of_memory is None for result in results),
        "cells": rows,
        "phase_peaks": [_phases(result) for result in results if result.phase_peaks_bytes],
        "splits": [{**_workload(r.cell), **_kinds(r.split_bytes)} for r in results if r.split_bytes],
        "owners": _owners(results),
    }
    return (_check("memory.measure", measurements, findings, started),)


def _check(check_id: str, measurements: dict[str, Any], findings: Sequence[Finding], started: float) -> CheckResult:
    status, reason = Status.PASSED, None
    if any(finding.severity == "error" for finding in findings):
        status = Status.FAILED
    elif not measurements["compared"]:
        status, reason = Status.INCONCLUSIVE, "no cell ran"
    return CheckResult(
        id=check_id,
        status=status,
        reason=reason,
        seconds=time.perf_counter() - started,
        measurements=measurements,
        findings=tuple(findings),
    )


def _workload(cell: Cell) -> dict[str, Any]:
    return {
        "configuration": cell.name,
        "world_tokens": cell.world_tokens,
        "text_tokens": cell.text_tokens,
        "batch": cell.batch,
    }


def _row(result: Any) -> dict[str, Any]:
    return {
        **_workload(result.cell),
        "peak_allocated_bytes": result.peak_allocated_bytes,
        "peak_reserved_bytes": result.peak_reserved_bytes,
        "fits": getattr(result, "fits", None),
    }


def _phases(result: Any) -> dict[str, Any]:
    peaks = {f"{phase}_bytes": peak for phase, peak in result.phase_peaks_bytes.items()}
    return {**_workload(result.cell), **peaks}


def _kinds(split: dict[str, int]) -> dict[str, int]:
    from theworld_validate.memory.history import KINDS

    return {f"{kind}_bytes": split.get(kind, 0) for kind in (*KINDS, "rounding")}


def _curve(results: Sequence[Predicted], over: str) -> dict[str, Any]:
    """A sweep as lines to draw, and the largest size that fits."""
    field = {"batch": "batch", "text": "text_tokens", "world": "world_tokens"}[over]
    sizes = [getattr(result.cell, field) for result in results]
    return {
        "configuration": results[0].cell.name,
        "over": field,
        "largest_that_fits": max((size for size, r in zip(sizes, results, strict=True) if r.fits), default=None),
        "sizes": sizes,
        "peak_allocated_bytes": [result.peak_allocated_bytes for result in results],
        "peak_reserved_bytes": [result.peak_reserved_bytes for result in results],
    }


def _moved_floors(results: Sequence[Any]) -> list[Finding]:
    """Whether a cell found the GPU as the one before it did; master weights are part of a mixed cell's own floor."""
    floors = [(result.cell, result.floor_bytes) for result in results if result.cell.precision == "bfloat16"]
    return [
        Finding(
            code="memory.floor_moved",
            severity="warning",
            location=cell.title,
            message=f"{cell.title} began with {floor - before:+,} bytes against the cell before it",
            expected=before,
            actual=floor,
            cause="something of an earlier cell, or a library's workspace, is still on the GPU",
            remedy="measure this cell in a process of its own",
        )
        for (_, before), (cell, floor) in pairwise(floors)
        if floor != before
    ]


def _owners(results: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"owner": asked_by, "size_bytes": size, "kind": kind, **_workload(result.cell)}
        for result in results
        for kind, size, asked_by in result.owners
    ]


def _does_not_fit(result: Predicted, gpu: str | None, capacity_bytes: int, levers: list[dict[str, Any]]) -> Finding:
    ways = [lever["with"] for lever in levers if lever["cell"] == result.cell.title]
    assert result.peak_reserved_bytes is not None
    return Finding(
        code="memory.does_not_fit",
        location=result.cell.title,
        message=f"{result.cell.title} does not fit {gpu}: it takes {result.peak_reserved_bytes / 1e9:.1f} GB "
        f"and {capacity_bytes / 1e9:.1f} GB can be had",
        expected=capacity_bytes,
        actual=result.peak_reserved_bytes,
        cause=f"the most is taken by {max(result.split_bytes, key=lambda kind: result.split_bytes[kind])}",
        remedy=f"it fits with {'; or with '.join(ways)}" if ways else "no lever, nor pair of them, makes it fit",
    )
