"""The CUDA half of the digest: XXH3 of many tensors' chunks in one Triton launch.

In: tensors on one CUDA device. Out: the 128-bit XXH3 of each chunk, the same bits that `xxhash` gives for the
same bytes on a CPU. XXH3 has 8 lanes of 64 bits; two neighbours exchange data, and pairs of them never meet before
the end. So a thread owns one pair of one chunk, has the 16 stripes of a 1 KiB block in flight at once, and no
thread waits for another. Chunks are independent, and one launch takes those of many tensors.

The algorithm and its constants: Yann Collet, xxHash, doc/xxhash_spec.md, "XXH3 (128-bit), long input".
"""

# T tensors, C chunks, W = 128 words of 64 bits in a block: 16 stripes of 8 lanes

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from theworld_validate.fingerprint.chunks import BLOCK_BYTES, CHUNK_BYTES

# The default secret of XXH3, 192 bytes, read from the specification's table.
_SECRET_HEX = (
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248e"
    "e03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a"
    "51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8f"
    "f8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_SECRET = bytes.fromhex(_SECRET_HEX)
_STRIPES, _LANES = 16, 8
_WORDS = _STRIPES * _LANES
CHUNKS_PER_PROGRAM = 16

_MASK = (1 << 64) - 1
_P32_1, _P32_2, _P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_P64_1, _P64_2, _P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P64_4, _P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _secret_words(offset: int, count: int, step: int = 8) -> list[int]:
    return [int.from_bytes(_SECRET[offset + step * i :][:8], "little") for i in range(count)]


def _constants() -> np.ndarray:
    """All that the kernel reads from one table: see the offsets beside each part."""
    stripe_keys = [word for stripe in range(_STRIPES) for word in _secret_words(8 * stripe, _LANES)]  # 0
    last_block_keys = [*stripe_keys[:-_LANES], *_secret_words(192 - 64 - 7, _LANES)]  # 128: its last stripe's differ
    scramble_keys = _secret_words(192 - 64, _LANES)  # 256
    initial = [_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1]  # 264
    low_keys, high_keys = _secret_words(11, _LANES), _secret_words(192 - 64 - 11, _LANES)  # 272, 280
    table = [*stripe_keys, *last_block_keys, *scramble_keys, *initial, *low_keys, *high_keys]
    return np.array(table, dtype=np.uint64).view(np.int64)


@triton.jit
def _reverse_bytes(word):
    """A 64-bit word in the other byte order: xxhash writes its digests with the highest byte first."""
    word = ((word & 0x00FF00FF00FF00FF) << 8) | ((word >> 8) & 0x00FF00FF00FF00FF)
    word = ((word & 0x0000FFFF0000FFFF) << 16) | ((word >> 16) & 0x0000FFFF0000FFFF)
    return (word << 32) | (word >> 32)


@triton.jit
def _add_stripe(acc_even, acc_odd, even, odd, key_even, key_odd):
    """XXH3_accumulate_512 for the two lanes that a thread owns: each also takes its neighbour's data."""
    mixed_even, mixed_odd = even ^ key_even, odd ^ key_odd
    acc_even += mixed_even.to(tl.uint32).to(tl.uint64) * (mixed_even >> 32).to(tl.uint32).to(tl.uint64) + odd
    acc_odd += mixed_odd.to(tl.uint32).to(tl.uint64) * (mixed_odd >> 32).to(tl.uint32).to(tl.uint64) + even
    return acc_even, acc_odd


@triton.jit
def _load_word(words, index, valid_bytes):
    """Read a word of 64 bits; what lies behind the tensor's end reads as zeros, also within a word."""
    word = tl.load(words + index, mask=valid_bytes > 0, other=0).to(tl.uint64, bitcast=True)
    surplus_bits = tl.minimum(tl.maximum(8 - valid_bytes, 0), 7) * 8
    return word & (tl.full(word.shape, 0xFFFFFFFFFFFFFFFF, tl.uint64) >> surplus_bits.to(tl.uint64))


@triton.jit
def _merge(acc_even, acc_odd, keys, lanes, start, CHUNKS: tl.constexpr):
    """XXH3_mergeAccs: fold each lane pair's 128-bit product to 64 bits, add a chunk's four, avalanche."""
    left = acc_even ^ tl.load(keys + lanes).to(tl.uint64, bitcast=True)
    right = acc_odd ^ tl.load(keys + lanes + 1).to(tl.uint64, bitcast=True)
    total = tl.sum(tl.reshape((left * right) ^ tl.umulhi(left, right), [CHUNKS, 4]), axis=1) + start
    total = total ^ (total >> 37)
    total = total * 0x165667919E3779F9
    return total ^ (total >> 32)


@triton.jit(do_not_specialize=["num_tensors", "search_steps", "num_chunks"])
def _chunk_hashes(
    tables,  # (3, T) int64: addresses, multiples of 8; sizes in bytes; first chunks
    constants,  # (288,) int64
    hashes,  # (C, 2) int64: high and low half, highest byte first
    num_tensors,
    search_steps,  # halvings that find one of T
    num_chunks,
    CHUNKS: tl.constexpr,  # of one program; a thread owns two lanes of one chunk
    CHUNK_BYTES: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    WORDS: tl.constexpr,
    P64_1: tl.constexpr,
    P64_2: tl.constexpr,
    P32_1: tl.constexpr,
):
    pair = tl.arange(0, 4 * CHUNKS)
    lane = 2 * (pair % 4)
    chunk = tl.program_id(0).to(tl.int64) * CHUNKS + pair // 4
    exists = chunk < num_chunks
    # The last tensor whose first chunk is not after this one: halve until low is it.
    first_chunks = tables + 2 * num_tensors
    low, high = tl.zeros_like(pair), tl.zeros_like(pair) + num_tensors
    for _ in range(search_steps):
        middle = (low + high) // 2
        is_before = tl.load(first_chunks + middle, mask=middle < num_tensors, other=num_chunks) <= chunk
        low, high = tl.where(is_before, middle, low), tl.where(is_before, high, middle)
    start = (chunk - tl.load(first_chunks + low)) * CHUNK_BYTES
    length = tl.minimum(tl.load(tables + num_tensors + low) - start, CHUNK_BYTES)
    length = tl.where(exists, length, 0)
    words = (tl.load(tables + low) + start).to(tl.pointer_type(tl.int64)) + lane
    num_blocks = (length + BLOCK_BYTES - 1) // BLOCK_BYTES

    scramble_even = tl.load(constants + 2 * WORDS + lane).to(tl.uint64, bitcast=True)
    scramble_odd = tl.load(constants + 2 * WORDS + lane + 1).to(tl.uint64, bitcast=True)
    acc_even = tl.load(constants + 2 * WORDS + 8 + lane).to(tl.uint64, bitcast=True)
    acc_odd = tl.load(constants + 2 * WORDS + 8 + lane + 1).to(tl.uint64, bitcast=True)
    for block in range(tl.max(num_blocks, axis=0)):
        is_last = block >= num_blocks - 1
        new_even, new_odd = acc_even, acc_odd
        for stripe in tl.static_range(16):
            index = block * WORDS + stripe * 8
            valid_bytes = length - 8 * (index + lane)
            even = _load_word(words, index, valid_bytes)
            odd = _load_word(words, index + 1, valid_bytes - 8)
            keys = constants + stripe * 8 + lane
            if stripe == 15:  # the last stripe of a chunk has keys of its own
                keys += tl.where(is_last, WORDS, 0)
            key_even = tl.load(keys).to(tl.uint64, bitcast=True)
            key_odd = tl.load(keys + 1).to(tl.uint64, bitcast=True)
            new_even, new_odd = _add_stripe(new_even, new_odd, even, odd, key_even, key_odd)
        mixed_even = (new_even ^ (new_even >> 47) ^ scramble_even) * P32_1
        mixed_odd = (new_odd ^ (new_odd >> 47) ^ scramble_odd) * P32_1
        is_past = block >= num_blocks
        acc_even = tl.where(is_past, acc_even, tl.where(is_last, new_even, mixed_even))
        acc_odd = tl.where(is_past, acc_odd, tl.where(is_last, new_odd, mixed_odd))

    # A chunk's four pairs know the same length.
    total_bytes = tl.max(tl.reshape(num_blocks * BLOCK_BYTES, [CHUNKS, 4]), axis=1).to(tl.uint64)
    low_half = _merge(acc_even, acc_odd, constants + 2 * WORDS + 16, lane, total_bytes * P64_1, CHUNKS)
    high_start = 0xFFFFFFFFFFFFFFFF - total_bytes * P64_2
    high_half = _merge(acc_even, acc_odd, constants + 2 * WORDS + 24, lane, high_start, CHUNKS)
    first = tl.program_id(0).to(tl.int64) * CHUNKS + tl.arange(0, CHUNKS)
    tl.store(hashes + 2 * first, _reverse_bytes(high_half).to(tl.int64, bitcast=True), mask=first < num_chunks)
    tl.store(hashes + 2 * first + 1, _reverse_bytes(low_half).to(tl.int64, bitcast=True), mask=first < num_chunks)


_constants_on: dict[torch.device, torch.Tensor] = {}


def launch_chunk_hashes(device: torch.device, addresses: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """Hash every chunk of contiguous tensors of one device, in one launch.

    Args:
        device: a CUDA device.
        addresses: of T tensors there: multiples of 8.
        sizes: their bytes; at least 1 each.

    Returns:
        (chunks of all tensors, in order, 2) int64 on the device: in memory, the bytes of xxhash's digests. The caller
        may free the tensors at once: the launch is ordered before any reuse of their memory on the same stream.
    """
    num_tensors = len(addresses)
    tables = np.empty((3, num_tensors), dtype=np.int64)
    tables[0], tables[1] = addresses, sizes
    chunks = -(-tables[1] // CHUNK_BYTES)
    tables[2] = np.cumsum(chunks) - chunks
    num_chunks = int(chunks.sum())
    if device not in _constants_on:
        _constants_on[device] = torch.from_numpy(_constants()).to(device)
    # CUDA takes a small pageable source over before it returns; asked to block, torch would wait for the whole queue.
    on_device = torch.from_numpy(tables).to(device, non_blocking=True)
    hashes = torch.empty((num_chunks, 2), dtype=torch.int64, device=device)
    kernel: Any = _chunk_hashes
    with torch.cuda.device(device):  # Triton launches on the current one, whatever its arguments lie on
        kernel[(triton.cdiv(num_chunks, CHUNKS_PER_PROGRAM),)](
            on_device,
            _constants_on[device],
            hashes,
            num_tensors,
            num_tensors.bit_length(),
            num_chunks,
            CHUNKS=CHUNKS_PER_PROGRAM,
            CHUNK_BYTES=CHUNK_BYTES,
            BLOCK_BYTES=BLOCK_BYTES,
            WORDS=_WORDS,
            P64_1=_P64_1,
            P64_2=_P64_2,
            P32_1=_P32_1,
            num_warps=CHUNKS_PER_PROGRAM // 8,  # 32 threads are 8 chunks of 4 lane pairs
        )
    return hashes
