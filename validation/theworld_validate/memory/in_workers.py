"""Cells predicted and measured in workers, which deliver each one as it is finished.

In: what is loaded, cells, and what is asked. Out: a `Prediction` or a `Measured` a cell; a worker that ends early costs
the cells that it owed. The number of workers changes nothing that is allocated; Gemma calls its rotary embeddings in
the order of Python's hash seed, which can move what is reserved by one segment.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.memory.answers import ModelSource, Question, answer
from theworld_validate.memory.cell_inputs import check_length
from theworld_validate.memory.cells import NF4, ROLLOUT, TRAIN, Cell
from theworld_validate.memory.optimizers import ADAMW_8BIT, require_bitsandbytes
from theworld_validate.memory.outcomes import Measured, Prediction
from theworld_validate.results import InputError
from theworld_validate.subjects.default_targets import default_targets
from theworld_validate.target import Target
from theworld_validate.workers.child import Job, say
from theworld_validate.workers.messages import Answer, Message, Step, Where
from theworld_validate.workers.pool import Outcome
from theworld_validate.workers.run import Run, describe_failure

_HERE = "theworld_validate.memory.in_workers:"
_CELL = "cell"  # the one value of an answer: a `Prediction` or a `Measured`, as JSON
_NO_CUDA = "no_cuda"


class NoCudaError(Exception):
    """There is no CUDA device to measure on."""


def answer_in_workers(
    run: Run, source: ModelSource, cells: Sequence[Cell], question: Question, *, num_workers: int = 1
) -> Iterator[Prediction]:
    """Answer for every cell, in the order in which the workers are done; see `answers.answer`.

    Raises:
        InputError: if no model can be built, or a prompt is longer than its positions.
    """
    num_workers = max(min(num_workers, len(cells)), 1)
    shares = [tuple(cells[i::num_workers]) for i in range(num_workers)]
    jobs = [
        Job(
            name="memory.predict",
            function=f"{_HERE}answer_share",
            arguments={"source": source, "cells": share, "question": question},
        )
        for share in shares
    ]
    work = run.work(jobs, at_once=num_workers)
    answered = set()
    for _, message in work.messages():
        if isinstance(message, Answer):
            prediction: Prediction = _adapter(Prediction).validate_json(str(message.values[_CELL]))
            answered.add(prediction.cell)
            yield prediction
        else:
            run.tell(message)
    for share, outcome in zip(shares, run.settle(work.outcomes), strict=True):
        for cell, error in _owed(share, answered, outcome):
            yield Prediction(cell=cell, error=error)


def answer_share(source: ModelSource, cells: Sequence[Cell], question: Question) -> Iterator[Message]:
    """The work of one predicting worker."""
    from theworld_validate.memory.predict import Predictor

    config = source.read()
    looks_ahead = any(cell.task == ROLLOUT for cell in cells)
    predictor = Predictor(config, source.read_pipeline(config) if looks_ahead else None)
    for cell in cells:
        yield Step(text=cell.title)
        yield _answer(answer(predictor, cell, question))


def measure_in_worker(
    run: Run, target: Target, cells: Sequence[Cell], *, snapshots: Path | None = None
) -> Iterator[Measured]:
    """Load a checkpoint in bfloat16 and measure every cell on it; see `measure.measure_cells`.

    Raises:
        InputError: if it cannot be loaded, or a cell cannot be measured on it.
        NoCudaError: if there is no CUDA device.
    """
    from theworld_validate.subjects.subject import Subject

    base, own = default_targets(target.checkpoint)
    subject = Subject.of(replace(target, dtype="bfloat16"), own or base, cosmos=target.cosmos)
    for quantization in dict.fromkeys(cell.quantization for cell in cells):  # a model in 4 bit is another model
        share = [cell for cell in cells if cell.quantization == quantization]
        loaded = replace(subject, quantization=None if quantization == "none" else quantization)
        yield from _measure_share_in_worker(run, loaded, share, snapshots)


def _measure_share_in_worker(
    run: Run, subject: Any, cells: Sequence[Cell], snapshots: Path | None
) -> Iterator[Measured]:
    arguments = {"subject": subject, "cells": tuple(cells), "snapshots": snapshots}
    job = Job(name="memory.measure", function=f"{_HERE}measure_share", arguments=arguments, is_subject=True)
    work = run.work([job])
    measured = set()
    for _, message in work.messages():
        if not isinstance(message, Answer):
            run.tell(message)
        elif _NO_CUDA in message.values:
            raise NoCudaError(message.values[_NO_CUDA])
        else:
            step: Measured = _adapter(Measured).validate_json(str(message.values[_CELL]))
            measured.add(step.cell)
            yield step
    run.add_subject(subject.record("model"), work.outcomes[0])
    (outcome,) = run.settle(work.outcomes)
    for cell, error in _owed(cells, measured, outcome):
        yield Measured(cell=cell, error=error)


def measure_share(subject: Any, cells: Sequence[Cell], snapshots: Path | None) -> Iterator[Message]:
    """The work of the measuring worker."""
    import torch

    from theworld_validate.environment import describe_environment
    from theworld_validate.memory.measure import measure_cells

    yield Where(environment=describe_environment())
    if not torch.cuda.is_available():
        reason = "this machine has no CUDA device; theworld-validate memory predict needs none"
        yield Answer(values={_NO_CUDA: reason})
        return
    if any(cell.optimizer == ADAMW_8BIT for cell in cells):
        require_bitsandbytes(f"--optimizer {ADAMW_8BIT}")
    if any(cell.quantization == NF4 for cell in cells):
        require_bitsandbytes(f"--quantization {NF4}")
    yield Step(text="loading the model")
    model = subject.load()
    for cell in cells:
        _check_measurable(cell, model)
    for step in measure_cells(model, cells, snapshots=snapshots, progress=lambda text: say(Step(text=text))):
        yield _answer(step)


def _check_measurable(cell: Cell, model: Any) -> None:
    try:
        check_length(cell, model.config)
    except ValueError as error:
        raise InputError(str(error)) from error
    if cell.task != TRAIN or not cell.is_the_worlds:
        return
    if model.world_config.use_temporal_embedding == (cell.preset == "documented"):
        raise InputError(
            f"--preset {cell.preset}: it describes another model than the other presets; "
            "theworld-validate memory predict takes it"
        )


def _owed(cells: Sequence[Cell], delivered: set[Cell], outcome: Outcome) -> Iterator[tuple[Cell, str]]:
    """The cells that a worker did not deliver, and why: the first is where it ended."""
    if outcome.is_whole:
        return
    error = describe_failure(outcome)
    for cell in cells:
        if cell not in delivered:
            yield cell, error
            error = "it was not begun: its process had ended before"


def _answer(value: Prediction | Measured) -> Answer:
    return Answer(values={_CELL: json.dumps(asdict(value))})


@cache
def _adapter(kind: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
