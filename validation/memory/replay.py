"""A traced step, three times over, through the allocator: peaks, and who owns the bytes at the highest.

In: a `StepTrace`. Out: a `Replayed`. Parameters, inputs and workspaces are there before; AdamW's states come with the
first optimizer step, its temporaries with each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from validation.memory.allocator import CachingAllocator
from validation.memory.cuda_routes import CUBLAS_WORKSPACE_BYTES
from validation.memory.tracer import Event

NUM_STEPS = 3
NUM_OWNERS = 10
NUM_POINTS = 400  # of the timeline
_MATMULS = ("mm", "addmm", "bmm", "baddbmm")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTrace:
    """One forward and backward pass.

    Args:
        persistent: (number, (kind, bytes)) of storages that are there before.
        events: in order.
        gradients: numbers of the storages that are parameters' gradients at the end.
        learning_bytes: bytes of each parameter that has a gradient, in the optimizer's order.
    """

    persistent: tuple[tuple[int, tuple[str, int]], ...]
    events: tuple[Event, ...]
    gradients: frozenset[int]
    learning_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What the allocator made of it; the fields are those of `predict.Predicted`."""

    peak_allocated: int
    peak_reserved: int
    phase_peaks: dict[str, int]
    split: dict[str, int]
    owners: tuple[tuple[str, int, str], ...]
    timeline: tuple[int, ...]


@dataclass(slots=True)
class _Living:
    block: Any
    num_bytes: int
    kind: str
    asked_by: str


class _Replay:
    def __init__(self, allocator: CachingAllocator) -> None:
        self.allocator = allocator
        self.living: dict[Any, _Living] = {}
        self.phase_peaks: dict[str, int] = {}
        self.peak_living: list[_Living] = []
        self.timeline: list[int] = []
        self._highest = 0

    def take(self, key: Any, num_bytes: int, kind: str, *, asked_by: str = "", phase: str = "") -> None:
        if num_bytes <= 0:
            return
        self.living[key] = _Living(self.allocator.malloc(num_bytes), num_bytes, kind, asked_by)
        allocated = self.allocator.allocated
        self.phase_peaks[phase] = max(allocated, self.phase_peaks.get(phase, 0))
        self.timeline.append(allocated)
        if allocated > self._highest:
            self._highest = allocated

    def give(self, key: Any) -> None:
        if (living := self.living.pop(key, None)) is not None:
            self.allocator.free(living.block)
            self.timeline.append(self.allocator.allocated)


def replay(trace: StepTrace, *, capacity: int | None, expandable: bool) -> Replayed:
    """Replay three steps.

    Raises:
        OutOfMemory: if they do not fit the capacity.
    """
    run = _run(trace, capacity, expandable, stop_at=None)
    peak = run.allocator.peak_allocated
    # A second run stops at the peak, to see who lives there: keeping every moment's state would cost more.
    living = _run(trace, capacity, expandable, stop_at=peak).peak_living
    split: dict[str, int] = {}
    for one in living:
        split[one.kind] = split.get(one.kind, 0) + one.num_bytes
    split["rounding"] = peak - sum(split.values())
    largest = sorted(living, key=lambda one: -one.num_bytes)[:NUM_OWNERS]
    every = max(len(run.timeline) // NUM_POINTS, 1)
    thinned = [max(run.timeline[i : i + every]) for i in range(0, len(run.timeline), every)]
    return Replayed(
        peak_allocated=peak,
        peak_reserved=run.allocator.peak_reserved,
        phase_peaks={name: num_bytes for name, num_bytes in run.phase_peaks.items() if name},
        split=split,
        owners=tuple((one.kind, one.num_bytes, one.asked_by) for one in largest),
        timeline=tuple(thinned),
    )


class _Reached(Exception):
    """The peak, in the run that looks for it."""


def _run(trace: StepTrace, capacity: int | None, expandable: bool, stop_at: int | None) -> _Replay:
    run = _Replay(CachingAllocator(capacity=capacity, expandable=expandable))
    kinds = _kinds(trace)
    parameters = [(number, size) for number, (kind, size) in trace.persistent if kind == "parameters"]
    # from_pretrained asks for all parameters at once and gives that back, so that one segment holds them.
    run.allocator.free(run.allocator.malloc(sum(size for _, size in parameters)))
    for number, size in parameters:
        run.take(number, size, "parameters", asked_by="from_pretrained")
    for number, (kind, size) in trace.persistent:
        if kind != "parameters":
            run.take(number, size, kind, asked_by="the batch")
    try:
        for step in range(NUM_STEPS):
            run.phase_peaks.clear()
            run.timeline.clear()
            _run_step(run, trace, kinds, step, stop_at)
    except _Reached:
        run.peak_living = list(run.living.values())
    return run


def _run_step(run: _Replay, trace: StepTrace, kinds: Mapping[int, str], step: int, stop_at: int | None) -> None:
    def check() -> None:
        if run.allocator.allocated == stop_at:
            raise _Reached

    for event in trace.events:
        workspace = ("workspace", event.phase)
        if event.operator in _MATMULS and workspace not in run.living:
            run.take(workspace, CUBLAS_WORKSPACE_BYTES, "workspace", asked_by="cuBLAS", phase=event.phase)
            check()
        if event.num_bytes > 0:
            asked_by = f"{event.module} ({event.operator})" if event.phase == "forward" else event.operator
            run.take(event.storage, event.num_bytes, kinds[event.storage], asked_by=asked_by, phase=event.phase)
            check()
        elif event.num_bytes < 0:
            run.give(event.storage)
    if step == 0:
        for i, size in enumerate(trace.learning_bytes):
            for state in ("exp_avg", "exp_avg_sq"):
                run.take((state, i), size, "optimizer_state", asked_by=f"AdamW {state}", phase="optimizer")
                check()
    # torch.optim.adam._multi_tensor_adam: the square roots of all second moments at once.
    for i, size in enumerate(trace.learning_bytes):
        run.take(("sqrt", i), size, "temporaries", asked_by="AdamW sqrt", phase="optimizer")
        check()
    for i in range(len(trace.learning_bytes)):
        run.give(("sqrt", i))
    for number in [number for number in kinds if number in run.living]:  # zero_grad, and the step's locals
        run.give(number)


def _kinds(trace: StepTrace) -> dict[int, str]:
    """Kind of each storage that the step makes."""
    born: dict[int, str] = {}
    died_in_forward: set[int] = set()
    for event in trace.events:
        if event.num_bytes > 0:
            born[event.storage] = event.phase
        elif event.phase != "backward":
            died_in_forward.add(event.storage)
    kinds = {}
    for number, phase in born.items():
        if number in trace.gradients:
            kinds[number] = "gradients"
        elif phase == "backward" or number in died_in_forward:
            kinds[number] = "temporaries"
        else:
            kinds[number] = "activations"
    return kinds
