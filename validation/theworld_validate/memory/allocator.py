"""The CUDA caching allocator, replayed: what a sequence of requests makes of allocated and reserved memory.

In: requests and releases in order. Out: peaks. The rules are those of torch/c10/cuda/CUDACachingAllocator.cpp
(2.11 to 2.13): sizes in steps of 512 bytes, a pool of small blocks and one of large ones, best fit, splitting,
merging with free neighbours, pools of their own for each stream, and giving cached segments back before running out.
"""

import bisect
from collections import defaultdict
from dataclasses import dataclass, field

ROUND = 512
SMALL_REQUEST = 1 << 20  # up to here, requests come from the pool of small blocks
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
LARGE_REQUEST = 10 << 20  # from here on, a request has a segment of its own
LARGE_ROUND = 2 << 20

Pool = tuple[int, bool]  # a stream, and whether its blocks are small


class OutOfMemoryError(Exception):
    """A request that does not fit, after every cached segment was given back."""


@dataclass(slots=True, eq=False)
class _Block:
    address: int
    size: int
    pool: Pool
    is_free: bool = True
    previous: "_Block | None" = None
    next: "_Block | None" = None


@dataclass
class CachingAllocator:
    """One device's allocator.

    Args:
        capacity: bytes that it may reserve; None for no limit.
        expandable: segments that grow in place (PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True): memory is mapped
            in steps of 2 MiB (small) or 20 MiB (large), and one range holds every block of a pool.
    """

    capacity: int | None = None
    expandable: bool = False
    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    num_retries: int = 0
    _free: dict[Pool, list[tuple[int, int, _Block]]] = field(default_factory=lambda: defaultdict(list))
    _next_address: int = 0
    _last: dict[Pool, "_Block | None"] = field(default_factory=dict)

    def malloc(self, num_bytes: int, *, stream: int = 0) -> _Block:
        """Take a block for a request that is made on a stream.

        Raises:
            OutOfMemoryError: if it does not fit into the capacity.
        """
        size = max((num_bytes + ROUND - 1) // ROUND * ROUND, ROUND)
        is_small = size <= SMALL_REQUEST
        pool = (stream, is_small)
        block = self._best_fit(size, pool) or self._grow(size, pool)
        remaining = block.size - size
        if remaining >= ROUND if is_small or self.expandable else remaining > SMALL_REQUEST:
            self._split(block, size)
        block.is_free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def free(self, block: _Block) -> None:
        """Give a block back, and merge it with free neighbours."""
        self.allocated -= block.size
        block.is_free = True
        if (before := block.previous) is not None and before.is_free:
            self._forget(before)
            before.size += block.size
            before.next = block.next
            if block.next is not None:
                block.next.previous = before
            if self._last.get(block.pool) is block:
                self._last[block.pool] = before
            block = before
        if (after := block.next) is not None and after.is_free:
            self._forget(after)
            block.size += after.size
            block.next = after.next
            if after.next is not None:
                after.next.previous = block
            if self._last.get(block.pool) is after:
                self._last[block.pool] = block
        self._remember(block)

    def empty_cache(self) -> None:
        """Give every segment that is free as a whole back to the driver."""
        for pool, blocks in self._free.items():
            for _, _, block in list(blocks):
                if block.previous is None and block.next is None:
                    self._forget(block)
                    self.reserved -= block.size
                    if self._last.get(pool) is block:
                        self._last[pool] = None

    def _best_fit(self, size: int, pool: Pool) -> _Block | None:
        free = self._free[pool]
        at = bisect.bisect_left(free, (size, -1))
        if at == len(free):
            return None
        return free.pop(at)[2]

    def _grow(self, size: int, pool: Pool) -> _Block:
        if self.expandable:
            return self._extend(size, pool)
        if pool[1]:
            wanted = SMALL_SEGMENT
        elif size < LARGE_REQUEST:
            wanted = LARGE_SEGMENT
        else:
            wanted = (size + LARGE_ROUND - 1) // LARGE_ROUND * LARGE_ROUND
        self._reserve(wanted)
        return self._new_block(wanted, pool)

    def _extend(self, size: int, pool: Pool) -> _Block:
        """Map more memory at the end of a pool's one range; a free block there grows."""
        step = SMALL_SEGMENT if pool[1] else LARGE_SEGMENT
        last = self._last.get(pool)
        tail = last if last is not None and last.is_free else None
        missing = size - (tail.size if tail is not None else 0)
        mapped = (missing + step - 1) // step * step
        self._reserve(mapped)
        if tail is not None:
            self._forget(tail)
            tail.size += mapped
            return tail
        block = self._new_block(mapped, pool)
        if last is not None:
            last.next, block.previous = block, last
            block.address = last.address + last.size
        self._last[pool] = block
        return block

    def _new_block(self, size: int, pool: Pool) -> _Block:
        self._next_address += 1 << 40  # segments are never neighbours
        return _Block(address=self._next_address, size=size, pool=pool)

    def _reserve(self, num_bytes: int) -> None:
        if self.capacity is not None and self.reserved + num_bytes > self.capacity:
            self.num_retries += 1
            self.empty_cache()
            if self.reserved + num_bytes > self.capacity:
                raise OutOfMemoryError
        self.reserved += num_bytes
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _split(self, block: _Block, size: int) -> None:
        rest = _Block(address=block.address + size, size=block.size - size, pool=block.pool)
        rest.previous, rest.next = block, block.next

        if block.next is not None:
            block.next.previous = rest
        block.next, block.size = rest, size
        if self._last.get(block.pool) is block:
            self._last[block.pool] = rest
        self._remember(rest)

    def _remember(self, block: _Block) -> None:
        bisect.insort(self._free[block.pool], (block.size, block.address, block))

    def _forget(self, block: _Block) -> None:
        free = self._free[block.pool]
        at = bisect.bisect_left(free, (block.size, block.address))
        assert free[at][2] is block
        free.pop(at)
