"""`memory predict --lengths` as a check: tables of runs, what would help, and whether they fit.

In: cells and a question. Out: one check result. Cells that were finished are kept when something later fails.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from theworld_validate.memory.answers import ModelSource
from theworld_validate.memory.budget import Budget, find_overruns
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.checks import kept, make_check
from theworld_validate.memory.findings import warn_of_kernels
from theworld_validate.memory.gpus import Gpu
from theworld_validate.memory.outcomes import Predicted
from theworld_validate.memory.rows import workload
from theworld_validate.memory.run_answers import answer_runs
from theworld_validate.memory.run_in_workers import WorkersLabour
from theworld_validate.memory.run_outcomes import RunOutcome, RunPrediction, RunQuestion
from theworld_validate.memory.run_replay import RunReplayed
from theworld_validate.rendering.tables import bytes_apart, format_bytes
from theworld_validate.results import CheckResult, Finding, Measurements, Row, Scalar
from theworld_validate.workers.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerms:
    """What runs are held against.

    Args:
        question: that is asked about every cell.
        gpu: that they must complete on; None for any.
        budgets: what the runs of matching cells may take.
    """

    question: RunQuestion
    gpu: Gpu | None = None
    budgets: tuple[Budget, ...] = ()


def predict_runs_in_workers(
    run: Run, source: ModelSource, cells: Sequence[Cell], *, terms: RunTerms, num_workers: int = 1
) -> Iterator[CheckResult]:
    """Predict a run for each cell.

    Raises:
        InputError: if no model can be built from the config, or a prompt is longer than its positions.
    """
    run.add_subject(source.record())
    labour = WorkersLabour(run, source, num_workers=num_workers)
    yield from check_runs(answer_runs(cells, terms.question, labour), cells, terms)


def check_runs(predictions: Iterable[RunPrediction], cells: Sequence[Cell], terms: RunTerms) -> Iterator[CheckResult]:
    """The check of predictions, as they come."""
    started = time.perf_counter()
    done: dict[Cell, RunPrediction] = {}

    def conclude() -> CheckResult:
        found = list(done.values())
        return make_check(
            "memory.run", _tables(found, terms), list(_judge(found, terms)), started, missing=len(cells) - len(found)
        )

    yield from kept((done.__setitem__(one.cell, one) for one in predictions), done, conclude)


def _tables(predictions: Sequence[RunPrediction], terms: RunTerms) -> Measurements:
    answered = [one for one in predictions if one.outcomes]
    return {
        "compared": len(answered),
        "lengths": terms.question.lengths.title,
        "allocator": terms.question.settings.title,
        "gpu": None if terms.gpu is None else terms.gpu.title,
        "capacity_bytes": terms.question.capacity_bytes,
        "about_capacity": None if terms.gpu is None else terms.gpu.about_capacity,
        "runs": [_run_row(one, num_lengths=len(set(terms.question.lengths.values))) for one in answered],
        "levers": [_lever_row(one.cell, outcome) for one in answered for outcome in one.outcomes[1:]],
        "courses": [_course_row(one.cell, one.outcomes[0].free) for one in answered],
    }


def _run_row(prediction: RunPrediction, *, num_lengths: int) -> Row:
    asked = prediction.outcomes[0]
    free, limited = asked.free, asked.limited
    return {
        **_workload(prediction.cell),
        "steps": len(free.allocated),
        "peak_allocated_bytes": free.peak_allocated_bytes,
        "peak_allocated_step": free.peak_allocated_step,
        "peak_reserved_bytes": free.peak_reserved_bytes,
        "peak_reserved_step": free.peak_reserved_step,
        "unused_bytes": free.unused_bytes,
        "unused_step": free.unused_step,
        "least_bytes": asked.least_bytes,
        "host_bytes": prediction.host_bytes,
        "completes": asked.completes,
        "retries": None if limited is None else limited.num_retries,
        "out_of_memory_step": None if limited is None else limited.out_of_memory_step,
        "different_lengths": num_lengths,
        "traced_lengths": prediction.num_traced,
    }


def _lever_row(cell: Cell, outcome: RunOutcome) -> Row:
    return {
        "cell": cell.name,
        "with": outcome.title,
        "peak_reserved_bytes": outcome.free.peak_reserved_bytes,
        "peak_allocated_bytes": outcome.free.peak_allocated_bytes,
        "least_bytes": outcome.least_bytes,
        "in_the_limit": None if outcome.limited is None else outcome.limited.verdict,
    }


def _course_row(cell: Cell, free: RunReplayed) -> Row:
    return {
        **_workload(cell),
        "allocated": list[Scalar](free.allocated),
        "reserved": list[Scalar](free.reserved),
    }


def _workload(cell: Cell) -> Row:
    """What names a row; the text's length is the run's."""
    return {name: value for name, value in workload(cell).items() if name != "text_tokens"}


def _judge(predictions: Sequence[RunPrediction], terms: RunTerms) -> Iterator[Finding]:
    yield from warn_of_kernels(terms.gpu)
    for one in predictions:
        if one.error is not None:
            yield _not_predicted(one.cell, one.error)
        elif one.outcomes[0].limited is not None:
            yield from _judge_limited(one, one.outcomes[0].limited, terms)
    yield from find_overruns(terms.budgets, [_as_predicted(one) for one in predictions if one.outcomes])


def _as_predicted(prediction: RunPrediction) -> Predicted:
    free = prediction.outcomes[0].free
    return Predicted(
        cell=prediction.cell,
        least_bytes=0,
        peak_allocated_bytes=free.peak_allocated_bytes,
        peak_reserved_bytes=free.peak_reserved_bytes,
    )


def _not_predicted(cell: Cell, error: str) -> Finding:
    return Finding(
        code="memory.not_predicted",
        location=cell.title,
        message=f"the run of {cell.name} could not be predicted: {error}",
        cause="the model's own code, or the prediction, fails on this configuration; the others stand",
        remedy="predict this configuration alone with --debug, and report it",
    )


def _judge_limited(prediction: RunPrediction, limited: RunReplayed, terms: RunTerms) -> Iterator[Finding]:
    name, asked = prediction.cell.name, prediction.outcomes[0]
    capacity = terms.question.capacity_bytes
    assert capacity is not None
    where = format_bytes(capacity)
    if terms.gpu is not None:
        where += f", which a process has of {terms.gpu.title} ({terms.gpu.about_capacity})"
    steps = len(asked.free.allocated)
    if not limited.completes:
        ways = [f"{one.title} ({one.limited.verdict})" for one in prediction.outcomes if one.limited and one.completes]
        yield Finding(
            code="memory.run_out_of_memory",
            location=name,
            message=f"{name}: the run of {steps:,} steps {limited.verdict} in {where}",
            expected=capacity,
            actual=asked.least_bytes,
            field="least_bytes",
            cause=_cause(asked, capacity),
            remedy=f"it completes with {'; or with '.join(ways)}" if ways else "nothing that was tried makes it fit",
        )
    elif limited.num_retries:
        yield Finding(
            code="memory.run_retries",
            severity="warning",
            location=name,
            message=f"{name}: the run of {steps:,} steps {limited.verdict} in {where}",
            expected=0,
            actual=limited.num_retries,
            cause="the allocator gives everything back that it holds unused, waits for the GPU, and asks anew",
            remedy="take a lever that reserves less, or a GPU with more memory, where the pauses matter",
        )


def _cause(asked: RunOutcome, capacity: int) -> str:
    free = asked.free
    if free.peak_allocated_bytes > capacity:
        allocated, _ = bytes_apart(free.peak_allocated_bytes, capacity)
        return f"step {free.peak_allocated_step:,} alone allocates {allocated}"
    return (
        f"it allocates {format_bytes(free.peak_allocated_bytes)} at most, but steps of changing length leave gaps "
        "between blocks that none of the next fits; the least memory to complete is "
        f"{bytes_apart(asked.least_bytes or 0, capacity)[0]}"
    )
