"""A traced step, three times over, or two calls, through the allocator: peaks, and who owns the bytes at the highest.

In: a `StepTrace` or a `CallTrace`. Out: a `Replayed`. Parameters, inputs and workspaces are there before; AdamW's
states come with the first optimizer step, its temporaries with each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from theworld_validate.memory.allocator import AllocatorSettings, CachingAllocator
from theworld_validate.memory.cuda_routes import CUBLAS_WORKSPACE_BYTES
from theworld_validate.memory.optimizers import ADAMW, Learning, states_of, temporaries_of
from theworld_validate.memory.tracer import Event

NUM_STEPS = 3
NUM_CALLS = 2
NUM_OWNERS = 10
NUM_POINTS = 400  # of the timeline
MATMULS = ("mm", "addmm", "bmm", "baddbmm")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTrace:
    """One training step, or one evaluation: without what the optimizer does.

    Args:
        persistent: (number, (kind, bytes, name)) of storages that are there before.
        events: in order.
        gradients: numbers of the storages that are parameters' gradients at the end.
        gathered: numbers of the storages that hold whole parameters for a while, where the rank keeps a shard.
        learning: each parameter that has a gradient, in the optimizer's order.
        optimizer: a name out of `cells.OPTIMIZERS`.
        host_bytes: the most that lies in the host's memory; None where nothing is offloaded.
    """

    persistent: tuple[tuple[int, tuple[str, int, str]], ...]
    events: tuple[Event, ...]
    gradients: frozenset[int]
    gathered: frozenset[int] = frozenset()
    learning: tuple[Learning, ...]
    optimizer: str = ADAMW
    host_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTrace:
    """Calls that generate, one after the other; the last again where there are fewer than `NUM_CALLS`.

    Args:
        persistent: (number, (kind, bytes, name)) of storages that are there before.
        calls: each one's events, in order.
        cached: numbers of the storages that held keys and values from one token to the next.
        moved: numbers of the storages of weights that come to the device during a call.
    """

    persistent: tuple[tuple[int, tuple[str, int, str]], ...]
    calls: tuple[tuple[Event, ...], ...]
    cached: frozenset[int]
    moved: frozenset[int]


Traced = StepTrace | CallTrace


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

    def take(
        self, key: Any, num_bytes: int, kind: str, *, asked_by: str = "", phase: str = "", stream: int = 0
    ) -> None:
        if num_bytes <= 0:
            return
        self.living[key] = _Living(self.allocator.malloc(num_bytes, stream=stream), num_bytes, kind, asked_by)
        allocated = self.allocator.allocated
        self.phase_peaks[phase] = max(allocated, self.phase_peaks.get(phase, 0))
        self.timeline.append(allocated)
        self._highest = max(self._highest, allocated)

    def enter(self, phase: str) -> None:
        """A phase that may ask for nothing: what it finds is its peak."""
        self.phase_peaks[phase] = max(self.allocator.allocated, self.phase_peaks.get(phase, 0))

    def give(self, key: Any) -> None:
        if (living := self.living.pop(key, None)) is not None:
            self.allocator.free(living.block)
            self.timeline.append(self.allocator.allocated)


def replay(trace: Traced, *, capacity: int | None, expandable: bool) -> Replayed:
    """Replay three steps, or two calls.

    Raises:
        OutOfMemoryError: if they do not fit the capacity.
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


class _ReachedError(Exception):
    """The peak, in the run that looks for it."""


def _run(trace: Traced, capacity: int | None, expandable: bool, stop_at: int | None) -> _Replay:
    run = _Replay(CachingAllocator(capacity=capacity, settings=AllocatorSettings(expandable_segments=expandable)))
    # from_pretrained asks for all parameters at once and gives that back, so that one segment holds them; so does DDP
    # for its buckets, of which its first step has one.
    for kind in ("parameters", "gradients"):
        if total := sum(size for _, (found, size, _) in trace.persistent if found == kind):
            run.allocator.free(run.allocator.malloc(total))
    for number, (kind, size, name) in trace.persistent:
        run.take(number, size, kind, asked_by=name)
    try:
        if isinstance(trace, CallTrace):
            for number in range(NUM_CALLS):
                run.phase_peaks.clear()
                run.timeline.clear()
                _run_call(run, trace, trace.calls[min(number, len(trace.calls) - 1)], stop_at)
        else:
            kinds = _kinds(trace)
            for step in range(NUM_STEPS):
                run.phase_peaks.clear()
                run.timeline.clear()
                _run_step(run, trace, kinds, step, stop_at)
    except _ReachedError:
        run.peak_living = list(run.living.values())
    return run


def _run_call(run: _Replay, trace: CallTrace, events: Sequence[Event], stop_at: int | None) -> None:
    def kind_of(event: Event) -> str:
        if event.storage in trace.moved:
            return "parameters"
        return "cache" if event.storage in trace.cached else "temporaries"

    _run_events(run, events, kind_of, stop_at, workspace_of=lambda event: "call")


def _run_events(
    run: _Replay,
    events: Sequence[Event],
    kind_of: Callable[[Event], str],
    stop_at: int | None,
    *,
    workspace_of: Callable[[Event], str],
) -> None:
    """Take and give what the events say; `workspace_of` names the thread that has a workspace of its own."""
    for event in events:
        if event.operator in MATMULS and (workspace := ("workspace", workspace_of(event))) not in run.living:
            run.take(workspace, CUBLAS_WORKSPACE_BYTES, "workspace", asked_by="cuBLAS", phase=event.phase)
            _check_peak(run, stop_at)
        if event.num_bytes > 0:
            is_placed = event.module and event.phase != "backward"
            asked_by = f"{event.module} ({event.operator})" if is_placed else event.operator
            kind = kind_of(event)
            run.take(event.storage, event.num_bytes, kind, asked_by=asked_by, phase=event.phase, stream=event.stream)
            _check_peak(run, stop_at)
        elif event.num_bytes < 0:
            run.give(event.storage)


def _check_peak(run: _Replay, stop_at: int | None) -> None:
    if run.allocator.allocated == stop_at:
        raise _ReachedError


def _run_step(run: _Replay, trace: StepTrace, kinds: Mapping[int, str], step: int, stop_at: int | None) -> None:
    _run_events(run, trace.events, lambda event: kinds[event.storage], stop_at, workspace_of=lambda event: event.phase)
    if trace.learning:
        run.enter("optimizer")
    if step == 0:
        for i, state in enumerate(states_of(trace.learning, trace.optimizer)):
            asked_by = f"AdamW {state.name}"
            run.take(("state", i), state.num_bytes, "optimizer_state", asked_by=asked_by, phase="optimizer")
            _check_peak(run, stop_at)
    for together in temporaries_of(trace.learning, trace.optimizer):
        for i, request in enumerate(together):
            asked_by = f"AdamW {request.name}"
            run.take(("optimizer", i), request.num_bytes, "temporaries", asked_by=asked_by, phase="optimizer")
            _check_peak(run, stop_at)
        for i in range(len(together)):
            run.give(("optimizer", i))
    for number in [number for number in kinds if number in run.living]:  # zero_grad, and the step's locals
        run.give(number)


def _kinds(trace: StepTrace) -> dict[int, str]:
    """Kind of each storage that the step makes."""
    has_backward = any(event.phase == "backward" for event in trace.events)
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
        elif number in trace.gathered:
            kinds[number] = "parameters"
        elif phase == "backward" or number in died_in_forward or not has_backward:
            kinds[number] = "temporaries"
        else:
            kinds[number] = "activations"
    return kinds
