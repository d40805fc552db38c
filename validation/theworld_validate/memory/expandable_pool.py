"""A pool whose one segment grows in place, page by page, as `expandable_segments:True` has it.

In: sizes. Out: blocks at the lowest address where free and unmapped ranges are enough. Free pages go back to the
driver one by one, and leave holes that are filled again first.
"""

from bisect import insort
from typing import Protocol

from theworld_validate.memory.block_pool import ADDRESS_BITS, ADDRESS_MASK, BlockPool

# Addresses of one pool. torch reserves 1 1/8 of the device's memory, and another range where that is used up by holes.
_RANGE = 1 << 42


class Driver(Protocol):
    """What gives memory and addresses."""

    def get_from_driver(self, num_bytes: int) -> bool:
        """Whether so many bytes more could be had."""

    def new_addresses(self, num_bytes: int) -> int:
        """Where so many addresses begin."""


class ExpandablePool(BlockPool):
    """Blocks of one stream in a range of addresses, whose pages are mapped where they are needed.

    Args:
        is_small: whether it is for small blocks.
        page: bytes that are mapped at once.
        driver: gives memory and addresses.
    """

    def __init__(self, is_small: bool, page: int, driver: Driver) -> None:
        super().__init__(is_small)
        self._page, self._driver = page, driver
        self._base = driver.new_addresses(_RANGE)
        self._holes = [self._base]  # sorted addresses of unmapped ranges; no two are neighbours
        self._hole_sizes = {self._base: _RANGE}
        self._hole_ends = {self._base + _RANGE: self._base}

    def best_fit(self, at: int) -> int:
        """Of the free blocks from `at` on, the one that is taken: what can grow counts as large as it can become."""
        free = self.free
        while at + 1 < len(free) and self._size_with_hole(free[at + 1]) < self._size_with_hole(free[at]):
            at += 1
        return at

    def _size_with_hole(self, key: int) -> int:
        size = key >> ADDRESS_BITS
        return size + self._hole_sizes.get((key & ADDRESS_MASK) + size, 0)

    def extend(self, size: int) -> tuple[int, int] | None:
        """Map what a block of so many bytes lacks; return its address and size, or None if the driver has no more."""
        address = self._lowest_with_room(size)
        if address in self._hole_sizes:
            mapped = self._map(address, min(self._hole_sizes[address], size))
            if mapped is None:
                return None
            address = mapped
        while (held := self.by_start[address]) < size:
            hole = address + held
            mapped = self._map(hole, min(size - held, self._hole_sizes[hole]))
            if mapped is None:
                return None
            address = mapped
        return address, self.remove(address)

    def _lowest_with_room(self, size: int) -> int:
        for hole in self._holes:
            start = self.by_end.get(hole, hole)
            end = start
            while end - start < size and (more := self.by_start.get(end) or self._hole_sizes.get(end)):
                end += more
            if end - start >= size:
                return start
        raise AssertionError("a pool has more addresses than any device has memory")

    def _map(self, hole: int, num_bytes: int) -> int | None:
        """Map pages at the beginning of a hole; return where the free block that they are part of begins."""
        mapped = -(-num_bytes // self._page) * self._page
        if not self._driver.get_from_driver(mapped):
            return None
        rest = self._remove_hole(hole) - mapped
        if rest:
            self._add_hole(hole + mapped, rest)
        return self.merge_in(hole, mapped)

    def release_all(self) -> int:
        """Unmap every page that is free as a whole; return the bytes."""
        released = 0
        for key in self.free[:]:
            address, size = key & ADDRESS_MASK, key >> ADDRESS_BITS
            begin = -(-(address - self._base) // self._page) * self._page + self._base
            end = (address + size - self._base) // self._page * self._page + self._base
            if begin >= end:
                continue
            self.remove(address)
            if begin > address:
                self.merge_in(address, begin - address)
            if end < address + size:
                self.merge_in(end, address + size - end)
            self._add_hole(begin, end - begin)
            released += end - begin
        return released

    def _add_hole(self, address: int, size: int) -> None:
        if (before := self._hole_ends.get(address)) is not None:
            size += self._remove_hole(before)
            address = before
        if address + size in self._hole_sizes:
            size += self._remove_hole(address + size)
        insort(self._holes, address)
        self._hole_sizes[address] = size
        self._hole_ends[address + size] = address

    def _remove_hole(self, address: int) -> int:
        size = self._hole_sizes.pop(address)
        del self._hole_ends[address + size]
        self._holes.remove(address)
        return size
