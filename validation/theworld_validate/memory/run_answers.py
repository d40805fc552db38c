"""A run predicted for each cell: which lengths are traced, which runs are replayed, and in what order.

In: cells, a question, and two that do the work, in this process or in workers. Out: a `RunPrediction` a cell. An error
in one cell is that cell's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from theworld_validate.memory.allocator import AllocatorSettings
from theworld_validate.memory.answers import describe_error
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.replay import StepTrace
from theworld_validate.memory.run_outcomes import (
    CHECKPOINTING,
    RunOutcome,
    RunPrediction,
    RunQuestion,
    RunVariant,
    variants_of,
    with_checkpointing,
)
from theworld_validate.memory.run_replay import least_memory, replay_run
from theworld_validate.memory.step_program import StepProgram, lengths_to_trace, program_of, steps_of
from theworld_validate.results import InputError


class NotTracedError(Exception):
    """A length could not be traced; what is said is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTask:
    """What is replayed at once: a variant, with the programs that its steps are derived from."""

    variant: RunVariant
    programs: Mapping[int, StepProgram]
    lengths: tuple[int, ...]
    capacity_bytes: int | None


class Labour(Protocol):
    """Who traces and replays."""

    def trace(self, cells: Sequence[Cell]) -> dict[int, StepProgram]:
        """Programs by length, of cells that differ in length alone.

        Raises:
            NotTracedError: if one could not be traced.
            InputError: if a prompt is longer than the model's positions.
        """

    def replay(self, tasks: Sequence[ReplayTask]) -> list[RunOutcome]:
        """Outcomes, in the order of the tasks."""


def answer_runs(cells: Sequence[Cell], question: RunQuestion, labour: Labour) -> Iterator[RunPrediction]:
    """Answer for every cell, one after the other.

    Raises:
        InputError: if a prompt is longer than the model's positions.
    """
    for cell in cells:
        longest = replace(cell, text_tokens=max(question.lengths.values))
        try:
            yield _answer(longest, question, labour)
        except InputError:
            raise
        except NotTracedError as error:
            yield RunPrediction(cell=longest, error=str(error))
        except Exception as error:
            yield RunPrediction(cell=longest, error=describe_error(error))


def _answer(cell: Cell, question: RunQuestion, labour: Labour) -> RunPrediction:
    variants = variants_of(question)
    lengths = tuple(sorted({length for variant in variants for length in variant.lengths}))
    traced = _trace(cell, lengths, labour)

    def task(variant: RunVariant, programs: Mapping[int, StepProgram]) -> ReplayTask:
        return ReplayTask(variant=variant, programs=programs, lengths=lengths, capacity_bytes=question.capacity_bytes)

    outcomes = labour.replay([task(variant, traced) for variant in variants])
    if outcomes[0].completes is False and (changed := with_checkpointing(cell)) is not None:
        variant = replace(variants[0], title=CHECKPOINTING, seeks_least=False)
        outcomes += labour.replay([task(variant, _trace(changed, lengths, labour))])
    # The longest step is always traced, and keeps the most.
    host_bytes = traced[max(lengths)].host_bytes
    return RunPrediction(cell=cell, outcomes=tuple(outcomes), num_traced=len(traced), host_bytes=host_bytes)


def _trace(cell: Cell, lengths: Sequence[int], labour: Labour) -> dict[int, StepProgram]:
    traced: dict[int, StepProgram] = {}
    while missing := lengths_to_trace(lengths, traced):
        traced |= labour.trace([replace(cell, text_tokens=length) for length in missing])
    return traced


def replay_task(task: ReplayTask) -> RunOutcome:
    """Replay one variant."""
    variant, settings = task.variant, task.variant.settings
    steps = steps_of(task.lengths, task.programs)
    # Without a limit garbage is never collected.
    free = replay_run(steps, variant.lengths, settings=_without_collection(settings))
    limited = None
    if task.capacity_bytes is not None and free.peak_reserved_bytes <= task.capacity_bytes and not _collects(settings):
        limited = free  # it never comes to the limit
    elif task.capacity_bytes is not None:
        limited = replay_run(steps, variant.lengths, settings=settings, capacity=task.capacity_bytes)
    least = least_memory(steps, variant.lengths, free, settings=settings) if variant.seeks_least else None
    return RunOutcome(title=variant.title, free=free, limited=limited, least_bytes=least)


def _collects(settings: AllocatorSettings) -> bool:
    return settings.garbage_collection_threshold is not None


def _without_collection(settings: AllocatorSettings) -> AllocatorSettings:
    return replace(settings, garbage_collection_threshold=None)


class OwnLabour:
    """Traces and replays in this process, one after the other.

    Args:
        predictor: of the cells' model.
        progress: called with a line before each piece of work.
    """

    def __init__(self, predictor: Any, progress: Callable[[str], None] = lambda step: None) -> None:
        self._predictor, self._progress = predictor, progress

    def trace(self, cells: Sequence[Cell]) -> dict[int, StepProgram]:
        """See `Labour`."""
        programs = {}
        for cell in cells:
            self._progress(cell.title)
            programs[cell.text_tokens] = trace_program(self._predictor, cell)
        return programs

    def replay(self, tasks: Sequence[ReplayTask]) -> list[RunOutcome]:
        """See `Labour`."""
        outcomes = []
        for task in tasks:
            self._progress(describe_task(task))
            outcomes.append(replay_task(task))
        return outcomes


def trace_program(predictor: Any, cell: Cell) -> StepProgram:
    """Trace one length."""
    trace = predictor.trace(cell)
    assert isinstance(trace, StepTrace)
    return program_of(trace)


def describe_task(task: ReplayTask) -> str:
    """For the progress bar."""
    return f"{len(task.variant.lengths):,} steps, {task.variant.title}"
