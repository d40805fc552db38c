"""Runs predicted in workers: lengths are traced side by side, and variants replayed side by side.

In: a model's source and cells. Out: what `run_answers` asks for; a worker that ends early costs the cell that it was
for.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from theworld_validate.memory.answers import ModelSource, describe_error
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.run_answers import NotTracedError, ReplayTask, describe_task, replay_task, trace_program
from theworld_validate.memory.run_outcomes import RunOutcome
from theworld_validate.memory.step_program import StepProgram
from theworld_validate.results import InputError
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Answer, Message, Step
from theworld_validate.workers.run import Run, describe_failure

_HERE = "theworld_validate.memory.run_in_workers:"
_NUMBER, _FOUND, _ERROR = "number", "found", "error"


class WorkersLabour:
    """Traces and replays in workers.

    Args:
        run: that they are part of.
        source: of the model.
        num_workers: how many are at work at the same time.
    """

    def __init__(self, run: Run, source: ModelSource, *, num_workers: int) -> None:
        self._run, self._source, self._num_workers = run, source, num_workers

    def trace(self, cells: Sequence[Cell]) -> dict[int, StepProgram]:
        """See `run_answers.Labour`."""
        shares = [tuple(cells[i :: self._num_workers]) for i in range(min(self._num_workers, len(cells)))]
        jobs = [
            Job(name="memory.run", function=f"{_HERE}trace_share", arguments={"source": self._source, "cells": share})
            for share in shares
        ]
        return {int(key): _read(StepProgram, found) for key, found in self._do(jobs, {c.text_tokens for c in cells})}

    def replay(self, tasks: Sequence[ReplayTask]) -> list[RunOutcome]:
        """See `run_answers.Labour`."""
        jobs = [
            Job(name="memory.run", function=f"{_HERE}replay_one", arguments={"task": task, "number": number})
            for number, task in enumerate(tasks)
        ]
        found = dict(self._do(jobs, set(range(len(tasks)))))
        return [_read(RunOutcome, found[number]) for number in range(len(tasks))]

    def _do(self, jobs: Sequence[Job], wanted: set[int]) -> Iterator[tuple[int, str]]:
        work = self._run.work(jobs, at_once=self._num_workers)
        answered: dict[int, str] = {}
        error = None
        for _, message in work.messages():
            if not isinstance(message, Answer):
                self._run.tell(message)
            elif _ERROR in message.values:
                error = str(message.values[_ERROR])
            else:
                answered[int(str(message.values[_NUMBER]))] = str(message.values[_FOUND])
        outcomes = self._run.settle(work.outcomes)
        if error is None and (failed := next((one for one in outcomes if not one.is_whole), None)) is not None:
            error = describe_failure(failed)
        if error is not None or wanted - answered.keys():
            raise NotTracedError(error or "a worker did not answer")
        yield from answered.items()


def trace_share(source: ModelSource, cells: Sequence[Cell]) -> Iterator[Message]:
    """The work of one tracing worker."""
    from theworld_validate.memory.predict import Predictor

    predictor = Predictor(source.read())
    for cell in cells:
        yield Step(text=cell.title)
        try:
            program = trace_program(predictor, cell)
        except InputError:
            raise
        except Exception as error:
            yield Answer(values={_ERROR: describe_error(error)})
            return
        yield _answer(cell.text_tokens, program)


def replay_one(task: ReplayTask, number: int) -> Iterator[Message]:
    """The work of one replaying worker."""
    yield Step(text=describe_task(task))
    yield _answer(number, replay_task(task))


def _answer(number: int, found: StepProgram | RunOutcome) -> Answer:
    return Answer(values={_NUMBER: number, _FOUND: json.dumps(asdict(found))})


def _read(kind: type, text: str) -> Any:
    return _adapter(kind).validate_json(text)


@cache
def _adapter(kind: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
