"""The replayed allocator: by hand where the rules are known, and by property where the input is not."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theworld_validate.memory.allocator import CachingAllocator, OutOfMemoryError

MIB = 1 << 20


def test_small_requests_share_a_segment_of_2_mib() -> None:
    allocator = CachingAllocator()
    for _ in range(4):
        allocator.malloc(1)
    assert (allocator.allocated, allocator.reserved) == (4 * 512, 2 * MIB)


def test_a_medium_request_takes_20_mib_and_the_rest_is_split_off() -> None:
    allocator = CachingAllocator()
    allocator.malloc(3 * MIB)
    allocator.malloc(16 * MIB)
    assert (allocator.allocated, allocator.reserved) == (20 * MIB, 20 * MIB)  # the last MiB is too small to split


def test_a_large_request_has_a_segment_of_its_own() -> None:
    allocator = CachingAllocator()
    block = allocator.malloc(11 * MIB)
    assert allocator.reserved == 12 * MIB
    allocator.free(block)
    assert (allocator.allocated, allocator.reserved) == (0, 12 * MIB)
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_free_neighbours_are_merged() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.malloc(5 * MIB) for _ in range(4)]
    for block in (blocks[0], blocks[2], blocks[1], blocks[3]):
        allocator.free(block)
    allocator.malloc(20 * MIB)
    assert allocator.reserved == 20 * MIB


def test_cached_segments_are_given_back_before_running_out() -> None:
    allocator = CachingAllocator(capacity=40 * MIB)
    allocator.free(allocator.malloc(30 * MIB))
    allocator.malloc(36 * MIB)
    assert (allocator.reserved, allocator.num_retries) == (36 * MIB, 1)
    with pytest.raises(OutOfMemoryError):
        allocator.malloc(10 * MIB)


def test_expandable_segments_grow_in_place() -> None:
    allocator = CachingAllocator(expandable=True)
    first = allocator.malloc(30 * MIB)
    assert allocator.reserved == 40 * MIB
    second = allocator.malloc(30 * MIB)
    assert allocator.reserved == 60 * MIB
    allocator.free(first)
    allocator.free(second)
    allocator.malloc(60 * MIB)
    assert allocator.reserved == 60 * MIB


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 64 * MIB)), max_size=120), st.booleans())
def test_what_must_hold_for_any_requests(requests: list[tuple[bool, int]], expandable: bool) -> None:
    allocator = CachingAllocator(expandable=expandable)
    living = []
    for frees, size in requests:
        if frees and living:
            allocator.free(living.pop(size % len(living)))
        else:
            block = allocator.malloc(size)
            assert size <= block.size < size + MIB + 512
            living.append(block)
        assert allocator.allocated == sum(block.size for block in living) <= allocator.reserved
        spans = sorted((block.address, block.address + block.size) for block in living)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for block in living:
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved) == (0, 0)
