"""A run, step by step, through the allocator: peaks, retries, where it ends, and the least memory that it completes in.

In: the steps' lengths, and a `RunStep` of each length. Out: a `RunReplayed`. Before the first step are the parameters;
each batch comes before the last one goes, as a loop has it that assigns the new to the name of the old.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from theworld_validate.memory.allocator import (
    DEFAULT_SETTINGS,
    AllocatorSettings,
    Block,
    CachingAllocator,
    OutOfMemoryError,
)
from theworld_validate.memory.step_program import RunStep

PRECISION_BYTES = 16 << 20  # of the least memory
_FIRST_STEPS = 16  # at least, and as many as reach the one that allocates the most


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReplayed:
    """What the allocator made of a run; steps are counted from 1.

    Args:
        allocated, reserved: peak bytes of each step, the parameters' loading before the first one; of a run that ends
            early, up to there.
        unused_bytes: reserved and not allocated at the moment when reserved came to its highest.
        unused_step: of that moment.
        num_retries: requests that were tried again after every cached block was given back.
        out_of_memory_step: in which the run ends, 0 for loading; None if it completes.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    allocated: tuple[int, ...]
    reserved: tuple[int, ...]
    unused_bytes: int
    unused_step: int
    num_retries: int
    out_of_memory_step: int | None = None

    @property
    def peak_allocated_bytes(self) -> int:
        """The most that is allocated at once."""
        return max(self.allocated, default=0)

    @property
    def peak_allocated_step(self) -> int:
        """The first step that allocates that much."""
        return 1 + self.allocated.index(self.peak_allocated_bytes) if self.allocated else 0

    @property
    def peak_reserved_bytes(self) -> int:
        """The most that is reserved at once."""
        return max(self.reserved, default=0)

    @property
    def peak_reserved_step(self) -> int:
        """The first step that reserves that much."""
        return 1 + self.reserved.index(self.peak_reserved_bytes) if self.reserved else 0

    @property
    def completes(self) -> bool:
        """Whether no request found too little memory."""
        return self.out_of_memory_step is None

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.completes:
            return f"runs out of memory at step {self.out_of_memory_step:,}"
        return f"fits by {self.num_retries:,} retries" if self.num_retries else "fits"


def replay_run(
    steps: Mapping[int, RunStep],
    lengths: Sequence[int],
    *,
    settings: AllocatorSettings = DEFAULT_SETTINGS,
    capacity: int | None = None,
    is_process_limit: bool = False,
) -> RunReplayed:
    """Replay a run.

    Args:
        steps: of each length.
        lengths: of the steps, in order.
        capacity: bytes that the allocator may reserve; None for no end.
        is_process_limit: whether the process is limited to that, and not the device; see `CachingAllocator`. A
            threshold for garbage collection is heeded in such a process alone, and makes it one.
    """
    is_limit = is_process_limit or settings.garbage_collection_threshold is not None
    allocator = CachingAllocator(
        settings=settings, capacity=None if is_limit else capacity, limit=capacity if is_limit else None
    )
    allocated, reserved = list[int](), list[int]()
    unused_step = number = 0
    try:
        _load(allocator, steps[lengths[0]].shape.parameters)
        living = dict[int, Block]()
        batch = list[Block]()
        seen = list[tuple[object, list[Block]]]()
        ends_evenly_from = len(lengths) if allocator.ages_blocks else _even_end(lengths)
        for number, length in enumerate(lengths, 1):
            unused_before = allocator.unused_at_peak
            last_batch, batch = batch, [allocator.malloc(size) for size in steps[length].inputs]
            for block in last_batch:
                allocator.free(block)
            allocator.play(steps[length].actions(is_first=number == 1), living)
            allocated.append(allocator.peak_allocated)
            reserved.append(allocator.peak_reserved)
            allocator.start_peaks()
            unused_step = number if allocator.unused_at_peak != unused_before else unused_step
            seen.append((allocator.state(), batch))
            if ends_evenly_from <= number - 2 and _is_settled(seen):
                for peaks in (allocated, reserved):
                    peaks.extend((peaks[-2:] * len(lengths))[: len(lengths) - number])
                break
    except OutOfMemoryError:
        if number:
            allocated.append(allocator.peak_allocated)
            reserved.append(allocator.peak_reserved)
        out_of_memory_step = number
    else:
        out_of_memory_step = None
    return RunReplayed(
        allocated=tuple(allocated),
        reserved=tuple(reserved),
        unused_bytes=allocator.unused_at_peak,
        unused_step=unused_step,
        num_retries=allocator.num_retries,
        out_of_memory_step=out_of_memory_step,
    )


def _load(allocator: CachingAllocator, parameters: Sequence[int]) -> None:
    """Parameters; from_pretrained asks for all at once and gives that back, so that one segment holds them."""
    allocator.free(allocator.malloc(sum(parameters)))
    for size in parameters:
        allocator.malloc(size)


def _even_end(lengths: Sequence[int]) -> int:
    """Number of the step from which all have the same length."""
    number = len(lengths)
    while number > 1 and lengths[number - 2] == lengths[-1]:
        number -= 1
    return number


def _is_settled(seen: Sequence[tuple[object, Sequence[Block]]]) -> bool:
    """Whether two steps left everything as they found it: then equal ones do so for ever."""
    if len(seen) < 3:
        return False
    (state, batch), (earlier_state, earlier_batch) = seen[-1], seen[-3]
    return state == earlier_state and [block[1:] for block in batch] == [block[1:] for block in earlier_batch]


def least_memory(
    steps: Mapping[int, RunStep], lengths: Sequence[int], free: RunReplayed, *, settings: AllocatorSettings
) -> int:
    """The least capacity that a run completes in, to `PRECISION_BYTES`, found by replaying it.

    The run ends early with so much less. Of an allocator it is not certain that more memory is always as good: where it
    is not, this is one border of several.

    Args:
        free: the run without a limit.
    """

    def completes(units: int, num_steps: int) -> bool:
        capacity = units * PRECISION_BYTES
        return replay_run(steps, lengths[:num_steps], settings=settings, capacity=capacity).completes

    def border(too_little: int, enough: int, num_steps: int) -> int:
        while enough - too_little > 1:
            middle = (enough + too_little) // 2
            if completes(middle, num_steps):
                enough = middle
            else:
                too_little = middle
        return enough

    def found_upwards(least: int, enough: int, num_steps: int) -> int:
        """The border, looked for from below: the runs that end early are the short ones."""
        too_little, candidate, stride = least - 1, least, 1
        while candidate < enough and not completes(candidate, num_steps):
            too_little, candidate, stride = candidate, candidate + stride, 2 * stride
        return border(too_little, min(candidate, enough), num_steps)

    enough = -(-free.peak_reserved_bytes // PRECISION_BYTES)
    # What its first steps die of, the whole run dies of: the border of a few is found at little cost, and is a bound.
    num_first = min(max(_FIRST_STEPS, free.peak_allocated_step), len(lengths))
    first = found_upwards(-(-max(free.allocated[:num_first]) // PRECISION_BYTES), enough, num_first)
    found = found_upwards(max(first, -(-free.peak_allocated_bytes // PRECISION_BYTES)), enough, len(lengths))
    return min(found * PRECISION_BYTES, free.peak_reserved_bytes)
