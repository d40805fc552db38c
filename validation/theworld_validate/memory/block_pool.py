"""Free blocks of one pool of the allocator: found by size, merged with their neighbours, given back as segments.

In: addresses and sizes. Out: the same. A free block is one whole number, its size above its address, so that a sorted
list of them is in the order of best fit: the smallest first, and of equal ones the lowest.
"""

from bisect import bisect_left, insort

ADDRESS_BITS = 48
ADDRESS_MASK = (1 << ADDRESS_BITS) - 1


class BlockPool:
    """Blocks of one stream, small or large ones.

    Attributes:
        free: sorted, size << ADDRESS_BITS | address.
        by_start, by_end: address of each free block -> size; address behind it -> its own.
        segments: address -> size of what the driver gave as one.
        cached_since: address of a free block -> number of the request after which it became free.
        kept_rest: bytes that stay with a block, where it is larger than a request, and are not split off.
        never_split_from: bytes of a request from which no block is split.
    """

    def __init__(self, is_small: bool) -> None:
        self.is_small = is_small
        self.free: list[int] = []
        self.by_start: dict[int, int] = {}
        self.by_end: dict[int, int] = {}
        self.segments: dict[int, int] = {}
        self.cached_since: dict[int, int] = {}
        self.kept_rest = 0
        self.never_split_from: float = float("inf")

    def merge_in(self, address: int, size: int) -> int:
        """Add a free block, made one with its free neighbours; return where it begins."""
        free, by_start, by_end = self.free, self.by_start, self.by_end
        before = by_end.pop(address, None)
        if before is not None:
            size_before = by_start.pop(before)
            del free[bisect_left(free, size_before << ADDRESS_BITS | before)]
            address, size = before, size + size_before
        end = address + size
        after = by_start.pop(end, None)
        if after is not None:
            del free[bisect_left(free, after << ADDRESS_BITS | end)]
            size += after
            end += after
        by_start[address] = size
        by_end[end] = address
        insort(free, size << ADDRESS_BITS | address)
        return address

    def remove(self, address: int) -> int:
        """Take a free block out of the lists; return its size."""
        size = self.by_start.pop(address)
        del self.by_end[address + size]
        del self.free[bisect_left(self.free, size << ADDRESS_BITS | address)]
        return size

    def is_whole_segment(self, key: int) -> bool:
        """Whether a free block is all that the driver gave at once."""
        return self.segments.get(key & ADDRESS_MASK) == key >> ADDRESS_BITS

    def release(self, key: int) -> int:
        """Give a whole segment back to the driver; return its size."""
        address = key & ADDRESS_MASK
        del self.segments[address]
        return self.remove(address)

    def release_all(self) -> int:
        """Give back what can be; return the bytes."""
        return sum([self.release(key) for key in self.free[:] if self.is_whole_segment(key)])
