"""What is asked about each cell of a matrix, answered one after the other or by several processes at once.

In: a config, cells, and a `Question`. Out: an `Answer` a cell, in the cells' order. The number of processes changes
nothing that is allocated; Gemma calls its rotary embeddings in the order of Python's hash seed, which differs from
process to process and can move what is reserved by one segment.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from theworld_validate.memory.cells import Cell
from theworld_validate.memory.gpus import find_levers, sweep
from theworld_validate.memory.predict import Predicted, Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about every cell.

    Args:
        capacity_bytes: what may be reserved; None for no limit.
        sweep_over: "batch", "text" or "world": the cell over growing sizes, in place of the cell alone.
        expandable_segments: as PYTORCH_CUDA_ALLOC_CONF sets it.
    """

    capacity_bytes: int | None = None
    sweep_over: str | None = None
    expandable_segments: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said of one cell.

    Args:
        results: one prediction, or a sweep's.
        levers: what would make it fit: levers, step time over the plain step's, prediction; empty where it fits.
    """

    results: tuple[Predicted, ...]
    levers: tuple[tuple[str, float | None, Predicted], ...] = ()


def answer(predictor: Predictor, cell: Cell, question: Question) -> Answer:
    """Answer for one cell.

    Raises:
        InputError: if the prompt is longer than the model's positions.
    """
    options: dict[str, Any] = {
        "capacity_bytes": question.capacity_bytes,
        "expandable_segments": question.expandable_segments,
    }
    if question.sweep_over is not None:
        return Answer(results=tuple(sweep(predictor, cell, question.sweep_over, **options)))
    predicted = predictor.predict(cell, **options)
    levers = find_levers(predictor, cell, **options) if predicted.fits is False else ()
    return Answer(results=(predicted,), levers=tuple(levers))


def answer_all(
    config: Any,
    cells: Sequence[Cell],
    question: Question,
    *,
    num_processes: int = 1,
    progress: Callable[[str], None] = lambda step: None,
) -> list[Answer]:
    """Answer for every cell; see `answer`."""
    num_processes = min(num_processes, len(cells))
    if num_processes > 1:
        return list(_answer_in_processes(config, cells, question, num_processes, progress))
    predictor = Predictor(config)
    answers = []
    for cell in cells:
        progress(cell.title)
        answers.append(answer(predictor, cell, question))
    return answers


def _answer_in_processes(
    config: Any, cells: Sequence[Cell], question: Question, num_processes: int, progress: Callable[[str], None]
) -> Iterator[Answer]:
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(config.to_dict(), question),
    )
    try:
        futures = [pool.submit(_answer_here, cell) for cell in cells]
        for cell, future in zip(cells, futures, strict=True):
            progress(cell.title)
            yield future.result()
    except BaseException:  # an interrupt too: nobody waits for what is under way
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_here: tuple[Predictor, Question] | None = None  # of a worker process


def _begin(config_values: dict[str, Any], question: Question) -> None:
    from theworld.configuration_theworld import TheWorldConfig

    global _here  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end at once, and say nothing
    _here = (Predictor(TheWorldConfig(**config_values)), question)


def _answer_here(cell: Cell) -> Answer:
    assert _here is not None
    predictor, question = _here
    return answer(predictor, cell, question)
