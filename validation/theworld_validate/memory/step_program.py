"""A traced step as the allocator sees it: blocks that are taken and given back, in order; and that of other lengths.

In: traces of a few lengths. Out: programs of every length in between. The order of requests is the same for lengths
that are alike; each size is constant, grows evenly, or is a polynomial of the second degree. That is not believed but
checked: a size's formula must give what a trace found that it was not made from; where it does not, or the order is
another, more lengths are traced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from theworld_validate.memory.allocator import ROUND
from theworld_validate.memory.cuda_routes import CUBLAS_WORKSPACE_BYTES
from theworld_validate.memory.optimizers import states_of, temporaries_of
from theworld_validate.memory.replay import MATMULS, StepTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgram:
    """One step.

    Args:
        actions: number of a block that is taken, or ~number of one that is given back.
        sizes: bytes that are asked for, of each action; 0 where one is given back.
        streams: of each action.
        once: which actions are the first step's alone: workspaces, and the optimizer's states.
        inputs: bytes of each tensor of the batch, which is there before the step and goes after the next one came.
        parameters: bytes of each tensor that is there for the whole run.
        host_bytes: the most that the step keeps in the host's memory; None where nothing is offloaded.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    actions: tuple[int, ...]
    sizes: tuple[int, ...]
    streams: tuple[int, ...]
    once: tuple[int, ...]
    inputs: tuple[int, ...]
    parameters: tuple[int, ...]
    host_bytes: int | None = None

    def is_like(self, other: "StepProgram") -> bool:
        """Whether only sizes differ."""
        return (
            self.actions == other.actions
            and self.streams == other.streams
            and self.once == other.once
            and self.parameters == other.parameters
            and len(self.inputs) == len(other.inputs)
        )


def program_of(trace: StepTrace) -> StepProgram:
    """The program of a traced step; it does what `replay` does with the trace."""
    actions, sizes, streams, once = list[int](), list[int](), list[int](), list[int]()
    numbers: dict[object, int] = {}
    living: dict[object, int] = {}

    def take(key: object, num_bytes: int, stream: int = 0, *, only_once: bool = False) -> None:
        if num_bytes <= 0:
            return
        if only_once:
            once.append(len(actions))
        living[key] = numbers.setdefault(key, len(numbers))
        actions.append(living[key])
        sizes.append(num_bytes)
        streams.append(stream)

    def give(key: object) -> None:
        if (number := living.pop(key, None)) is not None:
            actions.append(~number)
            sizes.append(0)
            streams.append(0)

    for event in trace.events:
        if event.operator in MATMULS and ("workspace", event.phase) not in living:
            take(("workspace", event.phase), CUBLAS_WORKSPACE_BYTES, only_once=True)
        if event.num_bytes > 0:
            take(event.storage, event.num_bytes, event.stream)
        elif event.num_bytes < 0:
            give(event.storage)
    for i, state in enumerate(states_of(trace.learning, trace.optimizer)):
        take(("state", i), state.num_bytes, only_once=True)
    for together in temporaries_of(trace.learning, trace.optimizer):
        for i, request in enumerate(together):
            take(("optimizer", i), request.num_bytes)
        for i in range(len(together)):
            give(("optimizer", i))
    for key in [key for key in numbers if isinstance(key, int)]:  # zero_grad, and the step's locals
        give(key)
    kept = [(kind, size) for _, (kind, size, _) in trace.persistent]
    return StepProgram(
        actions=tuple(actions),
        sizes=tuple(sizes),
        streams=tuple(streams),
        once=tuple(once),
        inputs=tuple(size for kind, size in kept if kind == "inputs"),
        parameters=tuple(size for kind, size in kept if kind != "inputs"),
        host_bytes=trace.host_bytes,
    )


class RunStep:
    """A step of one length, made ready to be replayed.

    Args:
        shape: a program of the same order; of its sizes only the first step's own are used.
        sizes: bytes of each action, and then of each input.
    """

    def __init__(self, shape: StepProgram, sizes: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
        self.shape = shape
        rounded = np.maximum((sizes + ROUND - 1) // ROUND * ROUND, np.where(sizes > 0, ROUND, 0))
        self._sizes, self._inputs = np.split(rounded, [len(shape.actions)])

    @property
    def inputs(self) -> list[int]:
        """Bytes of each input, rounded up."""
        return self._inputs.tolist()

    def actions(self, *, is_first: bool) -> Iterator[tuple[int, int, int]]:
        """Number of a block, its bytes rounded up, and its stream."""
        columns = (np.array(self.shape.actions), self._sizes, np.array(self.shape.streams))
        if not is_first:
            columns = tuple(np.delete(column, self.shape.once) for column in columns)
        return zip(*(column.tolist() for column in columns), strict=True)


class AlikeSteps:
    """Steps whose programs differ in sizes alone, and formulas for these.

    Args:
        traced: length -> program; three lengths or more.
    """

    def __init__(self, traced: Mapping[int, StepProgram]) -> None:
        self._lengths = sorted(traced)
        self._shape = traced[self._lengths[0]]
        sizes = np.array([(*traced[length].sizes, *traced[length].inputs) for length in self._lengths], dtype=np.int64)
        columns, self._column_of = np.unique(sizes, axis=1, return_inverse=True)
        self._columns = [tuple(int(size) for size in column) for column in columns.T]
        self.degree = max((_degree(self._lengths, column) for column in self._columns), default=0)

    @property
    def is_proven(self) -> bool:
        """Whether every size's formula gave what one trace more found than it was made from."""
        return self.degree <= 2 and len(self._lengths) > self.degree + 1

    def at(self, length: int) -> RunStep | None:
        """The step of a length in between; None where a formula gives no whole number of bytes."""
        sizes = [_value(self._lengths, column, length) for column in self._columns]
        if any(size.denominator != 1 or size < 0 for size in sizes):
            return None
        table = np.array([int(size) for size in sizes], dtype=np.int64)
        return RunStep(self._shape, table[self._column_of.reshape(-1)])


def _degree(lengths: Sequence[int], sizes: Sequence[int]) -> int:
    """Of the polynomial through all points, by divided differences."""
    row, degree = [Fraction(size) for size in sizes], 0
    for order in range(1, len(row)):
        row = [(row[i + 1] - row[i]) / (lengths[i + order] - lengths[i]) for i in range(len(row) - 1)]
        if any(row):
            degree = order
    return degree


def _value(lengths: Sequence[int], sizes: Sequence[int], at: int) -> Fraction:
    """Of the polynomial of at most the second degree through the first points, by Lagrange."""
    if len(set(sizes)) == 1:
        return Fraction(sizes[0])
    points = list(zip(lengths[:3], sizes[:3], strict=True))
    total = Fraction(0)
    for i, (x, y) in enumerate(points):
        term = Fraction(y)
        for j, (other, _) in enumerate(points):
            if j != i:
                term *= Fraction(at - other, x - other)
        total += term
    return total


def lengths_to_trace(wanted: Sequence[int], traced: Mapping[int, StepProgram]) -> list[int]:
    """Which lengths have to be traced next; none where every wanted one is traced, or can be derived from those."""
    return sorted({length for part in _parts(sorted(set(wanted)), traced) for length in part.missing})


def steps_of(wanted: Sequence[int], traced: Mapping[int, StepProgram]) -> dict[int, RunStep]:
    """Every wanted length's step, of lengths for which `lengths_to_trace` has nothing left."""
    found = {length: step for part in _parts(sorted(set(wanted)), traced) for length, step in part.steps.items()}
    return {length: found[length] for length in wanted}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    missing: tuple[int, ...] = ()
    steps: Mapping[int, RunStep] = field(default_factory=dict)


def _parts(lengths: Sequence[int], traced: Mapping[int, StepProgram]) -> Iterator[_Part]:
    """Lengths that are alike, or are to be looked at next."""
    num = len(lengths)
    looked_at = tuple(lengths[i] for i in (0, num // 3, 2 * num // 3, num - 1)) if num > 4 else tuple(lengths)
    if missing := tuple(length for length in looked_at if length not in traced):
        yield _Part(missing=missing)
        return
    known = {length: traced[length] for length in lengths if length in traced}
    if len(known) == num:
        yield _Part(steps={length: _traced_step(program) for length, program in known.items()})
        return
    first = next(iter(known.values()))
    if all(program.is_like(first) for program in known.values()):
        alike = AlikeSteps(known)
        if alike.is_proven:
            steps = {length: alike.at(length) for length in lengths}
            whole = {length: step for length, step in steps.items() if step is not None}
            lacking = tuple(length for length in lengths if length not in whole)
            yield _Part(steps=whole, missing=lacking)
            return
    yield from _parts(lengths[: num // 2 + 1], traced)
    yield from _parts(lengths[num // 2 :], traced)


def _traced_step(program: StepProgram) -> RunStep:
    return RunStep(program, np.array((*program.sizes, *program.inputs), dtype=np.int64))
