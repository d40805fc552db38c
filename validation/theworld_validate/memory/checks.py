"""The two memory commands as checks: tables, findings, and what fits.

In: cells, and what is asked of them. Out: check results. Cells that were finished are kept when something later fails
or is interrupted: the check then says so, and passes nothing.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from theworld.pipeline_geometries import PipelineGeometry
from theworld_validate.memory.answers import ModelSource, Terms, answer_all
from theworld_validate.memory.budget import Budget
from theworld_validate.memory.cells import SWEEPS, Cell
from theworld_validate.memory.findings import judge_measured, judge_predicted
from theworld_validate.memory.in_workers import NoCudaError, answer_in_workers, measure_in_worker
from theworld_validate.memory.outcomes import Measured, Prediction
from theworld_validate.memory.rows import (
    PHASES,
    curve_rows,
    lever_rows,
    measured_row,
    owner_rows,
    phase_rows,
    phases_of,
    predicted_row,
    split_rows,
    timeline_rows,
)
from theworld_validate.rendering.plain_text import counted
from theworld_validate.results import CheckResult, Finding, InputError, Measurements, Status
from theworld_validate.target import Target
from theworld_validate.workers.run import Run

Progress = Callable[[str], None]
_PREDICTED_PHASES = PHASES[:3]  # of a training step; zero_grad asks for nothing


def check_sweep(over: str | None) -> str | None:
    """Return what a sweep goes over.

    Raises:
        InputError: for anything but batch, text and world.
    """
    if over is not None and over not in SWEEPS:
        from theworld.checkpoints.error_text import one_line

        raise InputError(f"--sweep {one_line(over, 80)}: give batch, text or world")
    return over


def check_predicted(
    config: Any,
    cells: Sequence[Cell],
    *,
    terms: Terms | None = None,
    pipeline: PipelineGeometry | None = None,
    progress: Progress = lambda step: None,
) -> Iterator[CheckResult]:
    """Predict cells in this process; say which fit, and what would make the others fit.

    Args:
        config: a `TheWorldConfig` with a world branch.
        pipeline: what predicts; None where no cell looks ahead.

    Raises:
        InputError: if a prompt is longer than the model's positions.
    """
    terms = terms or Terms()
    yield from _predicted(answer_all(config, cells, terms.question, pipeline=pipeline, progress=progress), cells, terms)


def predict_in_workers(
    run: Run, source: ModelSource, cells: Sequence[Cell], *, terms: Terms, num_workers: int = 1
) -> Iterator[CheckResult]:
    """Predict cells as `check_predicted` does, in workers that share them.

    Raises:
        InputError: if no model can be built from the config, or a prompt is longer than its positions.
    """
    run.add_subject(source.record())
    predictions = answer_in_workers(run, source, cells, terms.question, num_workers=num_workers)
    yield from _predicted(predictions, cells, terms)


def check_measured(
    model: Any,
    cells: Sequence[Cell],
    *,
    budgets: Sequence[Budget] = (),
    snapshots: Path | None = None,
    progress: Progress = lambda step: None,
) -> Iterator[CheckResult]:
    """Measure cells on the model's CUDA device; the floor must return to the same byte between them.

    Raises:
        InputError: if the snapshots cannot be written.
    """
    from theworld_validate.memory.measure import measure_cells

    yield from conclude_measured(measure_cells(model, cells, snapshots=snapshots, progress=progress), cells, budgets)


def measure_target(
    run: Run,
    target: Target,
    cells: Sequence[Cell],
    *,
    budgets: Sequence[Budget] = (),
    snapshots: Path | None = None,
) -> Iterator[CheckResult]:
    """Load a checkpoint in a worker, in bfloat16, and measure cells as `check_measured` does; skipped without a GPU.

    Raises:
        InputError: if it cannot be loaded, or a cell cannot be measured on it.
    """
    try:
        yield from conclude_measured(measure_in_worker(run, target, cells, snapshots=snapshots), cells, budgets)
    except NoCudaError as error:
        yield CheckResult(id="memory.measure", status=Status.SKIPPED, reason=str(error), seconds=0.0)


def conclude_measured(
    steps: Iterable[Measured], cells: Sequence[Cell], budgets: Sequence[Budget] = ()
) -> Iterator[CheckResult]:
    """The check of measurements, as they come."""
    started = time.perf_counter()
    done: dict[Cell, Measured] = {}

    def conclude() -> CheckResult:
        results = [done[cell] for cell in cells if cell in done]
        findings = judge_measured(list(done.values()), budgets)
        return make_check(
            "memory.measure",
            {
                "compared": sum(result.peak_allocated_bytes is not None for result in results),
                "cells": [measured_row(result) for result in results],
                "phase_peaks": phase_rows(results, phases_of(cells)),
                "splits": split_rows(results),
                "owners": owner_rows(results),
            },
            findings,
            started,
            missing=len(cells) - len(done),
        )

    yield from kept((done.__setitem__(step.cell, step) for step in steps), done, conclude)


def _predicted(predictions: Iterable[Prediction], cells: Sequence[Cell], terms: Terms) -> Iterator[CheckResult]:
    started = time.perf_counter()
    done: dict[Cell, Prediction] = {}

    def conclude() -> CheckResult:
        found = [done[cell] for cell in cells if cell in done]
        return make_check(
            "memory.predict",
            _tables(found, terms),
            judge_predicted(found, terms),
            started,
            missing=len(cells) - len(done),
        )

    yield from kept((done.__setitem__(one.cell, one) for one in predictions), done, conclude)


def kept(work: Iterable[object], done: dict[Cell, Any], conclude: Callable[[], CheckResult]) -> Iterator[CheckResult]:
    """Do the work, and give its check; also where it ends early, of what was done until then."""
    try:
        for _ in work:
            pass
    except (InputError, NoCudaError):
        raise
    except (Exception, KeyboardInterrupt):
        if done:
            yield conclude()
        raise
    yield conclude()


def _tables(predictions: Sequence[Prediction], terms: Terms) -> Measurements:
    results = [result for prediction in predictions for result in prediction.results]
    tables: Measurements = {
        "compared": len(results),
        "gpu": None if terms.gpu is None else terms.gpu.title,
        "capacity_bytes": None if terms.gpu is None else terms.gpu.capacity_bytes,
        "about_capacity": None if terms.gpu is None else terms.gpu.about_capacity,
        "cells": [predicted_row(result) for result in results],
        "phase_peaks": phase_rows(results, phases_of((one.cell for one in results), _PREDICTED_PHASES)),
        "splits": split_rows(results),
        "owners": owner_rows(results),
        "timelines": timeline_rows(results),
    }
    if terms.sweep_over is not None:
        tables["sweep_over"] = terms.sweep_over
        tables["curves"] = curve_rows(predictions, SWEEPS[terms.sweep_over])
    elif terms.gpu is not None:
        tables["levers"] = lever_rows(predictions)
    return tables


def make_check(
    check_id: str, measurements: Measurements, findings: Sequence[Finding], started: float, *, missing: int
) -> CheckResult:
    """A check with its status: failed by an error, inconclusive where cells are missing or nothing ran."""
    status, reason = Status.PASSED, None
    if any(finding.severity == "error" for finding in findings):
        status = Status.FAILED
    elif missing:
        status = Status.INCONCLUSIVE
    elif not measurements["compared"]:
        status, reason = Status.INCONCLUSIVE, "no configuration ran"
    if missing:
        reason = f"it ended early: {counted(missing, 'configuration')} {'is' if missing == 1 else 'are'} missing"
    return CheckResult(
        id=check_id,
        status=status,
        reason=reason,
        seconds=time.perf_counter() - started,
        measurements=measurements,
        findings=tuple(findings),
    )
