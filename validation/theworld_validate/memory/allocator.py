"""The CUDA caching allocator, replayed: what a sequence of requests makes of allocated and reserved memory.

In: requests and releases in order. Out: peaks. The rules are those of torch/c10/cuda/CUDACachingAllocator.cpp
(2.11 to 2.13): sizes in steps of 512 bytes, a pool of small blocks and one of large ones, best fit, splitting,
merging with free neighbours, pools of their own for each stream, and giving cached segments back before running out.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from theworld_validate.memory.block_pool import ADDRESS_BITS, ADDRESS_MASK, BlockPool
from theworld_validate.memory.expandable_pool import ExpandablePool

ROUND = 512
SMALL_REQUEST = 1 << 20  # up to here, requests come from the pool of small blocks
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
LARGE_REQUEST = 10 << 20  # from here on, a request has a segment of its own
LARGE_ROUND = 2 << 20

Block: TypeAlias = tuple[BlockPool, int, int]  # its pool, address and size
Action: TypeAlias = tuple[int, int, int]  # see `CachingAllocator.play`


class OutOfMemoryError(Exception):
    """A request that does not fit, after every cached segment was given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """What PYTORCH_CUDA_ALLOC_CONF sets.

    Args:
        expandable_segments: segments that grow in place: memory is mapped in pages of 2 MiB (small) or 20 MiB (large),
            and one range holds every block of a pool.
        garbage_collection_threshold: share of the limit from which cached segments are given back before more is
            reserved, those first that were unused for longest; torch heeds it only in a process whose memory
            `torch.cuda.set_per_process_memory_fraction` limits.
        max_split_size_bytes: blocks from this size on are never split, and go to requests of nearly their size alone.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    expandable_segments: bool = False
    garbage_collection_threshold: float | None = None
    max_split_size_bytes: int | None = None

    @property
    def title(self) -> str:
        """As the environment variable has it; "default" for none."""
        parts = ["expandable_segments:True"] if self.expandable_segments else []
        if self.garbage_collection_threshold is not None:
            parts.append(f"garbage_collection_threshold:{self.garbage_collection_threshold:g}")
        if self.max_split_size_bytes is not None:
            parts.append(f"max_split_size_mb:{self.max_split_size_bytes >> 20}")
        return ",".join(parts) or "default"


DEFAULT_SETTINGS = AllocatorSettings()


class CachingAllocator:
    """One device's allocator.

    Args:
        capacity: bytes that the device has for it; None for no end.
        settings: of the allocator.
        limit: bytes that the process may reserve, as `torch.cuda.set_per_process_memory_fraction` sets them; what
            expandable segments would map is then rounded up to whole segments before it is held against the limit.

    Attributes:
        allocated, reserved: bytes now.
        peak_allocated, peak_reserved: the most bytes since the start, or since `start_peaks`.
        unused_at_peak: bytes reserved and not allocated when `reserved` was last at its highest since the start.
        num_retries: requests that were tried again after every cached segment was given back.
    """

    def __init__(
        self,
        *,
        capacity: int | None = None,
        settings: AllocatorSettings = DEFAULT_SETTINGS,
        limit: int | None = None,
    ) -> None:
        self._capacity, self._limit = capacity, limit
        self._expandable, self._max_split = settings.expandable_segments, settings.max_split_size_bytes
        self._gc_threshold = None if limit is None else settings.garbage_collection_threshold
        self._finds_plainly = not self._expandable and self._max_split is None
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = self.num_retries = 0
        self.unused_at_peak = self._highest_reserved = 0
        self._pools: dict[int, BlockPool] = {}
        self._num_requests = [0, 0]  # of the large blocks and of the small ones: the age of what is cached
        self._next_address = 1 << 30

    def start_peaks(self) -> None:
        """Begin anew to look for the highest."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    @property
    def ages_blocks(self) -> bool:
        """Whether what it does depends on when a block became free."""
        return self._gc_threshold is not None

    def state(self) -> object:
        """What decides, beside the living blocks, what it does next; equal states are equal allocators."""
        free = {number: tuple(pool.free) for number, pool in self._pools.items()}
        return free, self.reserved, self._next_address, self.num_retries

    def malloc(self, num_bytes: int, *, stream: int = 0) -> Block:
        """Take a block for a request that is made on a stream.

        Raises:
            OutOfMemoryError: if it does not fit.
        """
        living: dict[int, Block] = {}
        self.play(((0, max((num_bytes + ROUND - 1) // ROUND * ROUND, ROUND), stream),), living)
        return living[0]

    def free(self, block: Block) -> None:
        """Give a block back, and merge it with free neighbours."""
        self.play(((~0, 0, 0),), {0: block})

    def play(self, actions: Iterable[Action], living: dict[int, Block]) -> None:
        """Take and give back blocks, in order: what `malloc` and `free` do, in one loop for the sake of time.

        Args:
            actions: number of a block that is taken, its bytes rounded up to 512, and a stream; or ~number of one that
                is given back, and two numbers that say nothing.
            living: blocks by their numbers, before and afterwards.

        Raises:
            OutOfMemoryError: if a request does not fit; everything before it was done.
        """
        pools, num_requests = self._pools, self._num_requests
        ages, finds_plainly = self._gc_threshold is not None, self._finds_plainly
        allocated, peak_allocated = self.allocated, self.peak_allocated
        try:
            for number, size, stream in actions:
                if number < 0:
                    pool, address, held = living.pop(~number)
                    allocated -= held
                    address = pool.merge_in(address, held)
                    if ages:
                        pool.cached_since[address] = num_requests[pool.is_small]
                    continue
                is_small = size <= SMALL_REQUEST
                pool = pools.get(stream << 1 | is_small) or self._add_pool(stream, is_small=is_small)
                if ages:
                    num_requests[is_small] += 1
                free = pool.free
                at = bisect_left(free, size << ADDRESS_BITS)
                grows = at == len(free) or not (finds_plainly or (at := self._choose(pool, size, at)) >= 0)
                if grows:
                    self.allocated = allocated
                    address, held = self._grow(pool, size)
                else:
                    key = free.pop(at)
                    address, held = key & ADDRESS_MASK, key >> ADDRESS_BITS
                    del pool.by_start[address]
                rest = held - size
                if rest > pool.kept_rest and size < pool.never_split_from:
                    start = address + size
                    insort(free, rest << ADDRESS_BITS | start)
                    pool.by_start[start] = rest
                    pool.by_end[address + held] = start
                    held = size
                    if ages:
                        pool.cached_since[start] = num_requests[is_small]
                elif not grows:
                    del pool.by_end[address + held]
                living[number] = pool, address, held
                allocated += held
                peak_allocated = max(peak_allocated, allocated)
                if grows and self.reserved == self._highest_reserved:
                    self.unused_at_peak = self.reserved - allocated
        finally:
            self.allocated, self.peak_allocated = allocated, peak_allocated

    def empty_cache(self) -> None:
        """Give every segment that is free as a whole back to the driver; of expandable ones, every free page."""
        for pool in self._pools.values():
            self.reserved -= pool.release_all()

    def _add_pool(self, stream: int, *, is_small: bool) -> BlockPool:
        if self._expandable:
            pool: BlockPool = ExpandablePool(is_small, SMALL_SEGMENT if is_small else LARGE_SEGMENT, self)
        else:
            pool = BlockPool(is_small)
            if not is_small:
                pool.kept_rest = SMALL_REQUEST
                if self._max_split is not None:
                    pool.never_split_from = self._max_split
        self._pools[stream << 1 | is_small] = pool
        return pool

    def _choose(self, pool: BlockPool, size: int, at: int) -> int:
        """Which of the free blocks that are large enough is taken; below 0 for none of them."""
        if isinstance(pool, ExpandablePool):
            at = pool.best_fit(at)
        if self._max_split is not None:
            found = pool.free[at] >> ADDRESS_BITS
            if size < self._max_split <= found or (size >= self._max_split and found >= size + LARGE_SEGMENT):
                return -1
        return at

    def _grow(self, pool: BlockPool, size: int) -> tuple[int, int]:
        """Address and size of a new block, which is in no list of free ones."""
        if self._gc_threshold is not None:
            self._collect_garbage()
        made = self._reserve(pool, size)
        if made is None and self._max_split is not None and self._release_oversize(pool, size):
            made = self._reserve(pool, size)
        if made is None:
            self.empty_cache()
            self.num_retries += 1
            made = self._reserve(pool, size)
        if made is None:
            raise OutOfMemoryError
        return made

    def _reserve(self, pool: BlockPool, size: int) -> tuple[int, int] | None:
        if pool.is_small:
            wanted = SMALL_SEGMENT
        elif size < LARGE_REQUEST:
            wanted = LARGE_SEGMENT
        else:
            wanted = (size + LARGE_ROUND - 1) // LARGE_ROUND * LARGE_ROUND
        if self._limit is not None and self.reserved + wanted > self._limit:
            return None
        if isinstance(pool, ExpandablePool):
            return pool.extend(size)
        if not self.get_from_driver(wanted):
            return None
        address = self.new_addresses(wanted)
        pool.segments[address] = wanted
        return address, wanted

    def get_from_driver(self, num_bytes: int) -> bool:
        """Reserve more, if the device has it."""
        if self._capacity is not None and self.reserved + num_bytes > self._capacity:
            return False
        self.reserved += num_bytes
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self._highest_reserved = max(self._highest_reserved, self.reserved)
        return True

    def new_addresses(self, num_bytes: int) -> int:
        """Where so many bytes of addresses begin; segments are never neighbours."""
        address = self._next_address
        self._next_address += num_bytes + ROUND
        return address

    def _release_oversize(self, pool: BlockPool, size: int) -> bool:
        """Give back one cached block from `max_split_size` on that is large enough, or several, the largest first."""
        assert self._max_split is not None
        wanted = max(size, self._max_split)
        free = pool.free
        if isinstance(pool, ExpandablePool) or not free:
            return False
        if (at := bisect_left(free, wanted << ADDRESS_BITS)) < len(free):
            self.reserved -= pool.release(free[at])
            return True
        released = 0
        for key in reversed(free[:]):
            if released >= wanted or key >> ADDRESS_BITS < self._max_split:
                break
            released += pool.release(key)
        self.reserved -= released
        return released >= wanted

    def _collect_garbage(self) -> None:
        """Give back large segments that were unused for longer than the average, until enough is."""
        assert self._gc_threshold is not None
        assert self._limit is not None
        wanted = self.reserved - int(self._gc_threshold * self._limit)
        if wanted <= 0:
            return
        now = self._num_requests[False]
        whole = [
            (key, now - pool.cached_since[key & ADDRESS_MASK], pool)
            for number, pool in sorted(self._pools.items())
            if not number & 1
            for key in pool.free
            if pool.is_whole_segment(key)
        ]
        released, total_age, goes_on = 0, sum(age for _, age, _ in whole), True
        while released < wanted and goes_on and whole:
            threshold, goes_on, kept = total_age / len(whole), False, []
            for one in whole:
                key, age, pool = one
                if age >= threshold:
                    goes_on = True
                    total_age -= age
                    released += pool.release(key)
                else:
                    kept.append(one)
            whole = kept
        self.reserved -= released
