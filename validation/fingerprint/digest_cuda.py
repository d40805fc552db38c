"""The CUDA half of the digest: XXH3 of many tensors' chunks in one Triton launch.

In: tensors on one CUDA device. Out: the 128-bit XXH3 of each chunk, the same bits that `xxhash` gives for the
same bytes on a CPU. XXH3 adds up the 16 stripes of a 1 KiB block in any order and only then mixes, so a
program loads a whole block at a time; chunks are independent, and one launch takes those of many tensors.

The algorithm and its constants: Yann Collet, xxHash, doc/xxhash_spec.md, "XXH3 (128-bit), long input".
"""

# T tensors, C chunks, W = 128 words of 64 bits in a block: 16 stripes of 8 lanes

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from validation.fingerprint.chunks import BLOCK_BYTES, CHUNK_BYTES

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
def _merge(acc, keys, start):
    """XXH3_mergeAccs: fold four 128-bit products to 64 bits each, add, avalanche."""
    left, right = tl.split(tl.reshape(acc ^ keys, [4, 2]))
    total = tl.sum((left * right) ^ tl.umulhi(left, right), axis=0) + start
    total = total ^ (total >> 37)
    total = total * 0x165667919E3779F9
    return total ^ (total >> 32)


@triton.jit
def _chunk_hashes(
    tensor_of_chunk,  # (C,) int32
    pointers,  # (T,) int64: addresses, multiples of 8
    sizes,  # (T,) int64: bytes
    first_chunks,  # (T,) int64
    constants,  # (288,) int64
    hashes,  # (C, 2) int64: high and low half
    CHUNK_BYTES: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    WORDS: tl.constexpr,
    P64_1: tl.constexpr,
    P64_2: tl.constexpr,
    P32_1: tl.constexpr,
):
    chunk = tl.program_id(0).to(tl.int64)
    tensor = tl.load(tensor_of_chunk + chunk)
    start = (chunk - tl.load(first_chunks + tensor)) * CHUNK_BYTES
    length = tl.minimum(tl.load(sizes + tensor) - start, CHUNK_BYTES)
    words = tl.load(pointers + tensor).to(tl.pointer_type(tl.int64)) + start // 8
    num_blocks = tl.maximum((length + BLOCK_BYTES - 1) // BLOCK_BYTES, 1)

    w = tl.arange(0, WORDS)
    lane = tl.arange(0, 8)
    keys = tl.load(constants + w).to(tl.uint64, bitcast=True)
    scramble_keys = tl.load(constants + 2 * WORDS + lane).to(tl.uint64, bitcast=True)
    acc = tl.load(constants + 2 * WORDS + 8 + lane).to(tl.uint64, bitcast=True)
    for block in range(num_blocks):
        valid_bytes = length - block * BLOCK_BYTES - 8 * w
        data = tl.load(words + block * WORDS + w, mask=valid_bytes > 0, other=0).to(tl.uint64, bitcast=True)
        # Zeros after the end, also within its last word.
        surplus_bits = tl.minimum(tl.maximum(8 - valid_bytes, 0), 7) * 8
        data = data & (tl.full([WORDS], 0xFFFFFFFFFFFFFFFF, tl.uint64) >> surplus_bits.to(tl.uint64))
        is_last = block == num_blocks - 1
        if is_last:
            keys = tl.load(constants + WORDS + w).to(tl.uint64, bitcast=True)
        mixed = data ^ keys
        products = tl.sum(tl.reshape((mixed & 0xFFFFFFFF) * (mixed >> 32), [16, 8]), axis=0)
        even, odd = tl.split(tl.reshape(tl.sum(tl.reshape(data, [16, 8]), axis=0), [4, 2]))
        acc += products + tl.reshape(tl.join(odd, even), [8])  # each lane takes its neighbour's data
        if not is_last:
            acc = (acc ^ (acc >> 47) ^ scramble_keys) * P32_1
    total_bytes = (num_blocks * BLOCK_BYTES).to(tl.uint64)
    low = _merge(acc, tl.load(constants + 2 * WORDS + 16 + lane).to(tl.uint64, bitcast=True), total_bytes * P64_1)
    high = _merge(
        acc,
        tl.load(constants + 2 * WORDS + 24 + lane).to(tl.uint64, bitcast=True),
        0xFFFFFFFFFFFFFFFF - total_bytes * P64_2,
    )
    tl.store(hashes + 2 * chunk, high.to(tl.int64, bitcast=True))
    tl.store(hashes + 2 * chunk + 1, low.to(tl.int64, bitcast=True))


_constants_on: dict[torch.device, torch.Tensor] = {}


def launch_chunk_hashes(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Hash every chunk of contiguous, 8-byte aligned tensors of one device, in one launch.

    Args:
        tensors: on one device; each has at least one byte.

    Returns:
        (chunks of all tensors, in order, 2) int64 on the device: high and low half of each XXH3-128. The caller
        may free the tensors at once: the launch is ordered before any reuse of their memory on the same stream.
    """
    device = tensors[0].device
    sizes = np.array([t.numel() * t.element_size() for t in tensors], dtype=np.int64)
    chunks = -(-sizes // CHUNK_BYTES)
    first_chunks = np.cumsum(chunks) - chunks
    num_chunks = int(chunks.sum())
    tables = np.stack([np.array([t.data_ptr() for t in tensors], dtype=np.int64), sizes, first_chunks])
    owners = np.repeat(np.arange(len(tensors), dtype=np.int32), chunks)
    if device not in _constants_on:
        _constants_on[device] = torch.from_numpy(_constants()).to(device)
    on_device = torch.from_numpy(tables).to(device, non_blocking=True)
    owners_on_device = torch.from_numpy(owners).to(device, non_blocking=True)
    hashes = torch.empty((num_chunks, 2), dtype=torch.int64, device=device)
    kernel: Any = _chunk_hashes
    kernel[(num_chunks,)](
        owners_on_device,
        on_device[0],
        on_device[1],
        on_device[2],
        _constants_on[device],
        hashes,
        CHUNK_BYTES=CHUNK_BYTES,
        BLOCK_BYTES=BLOCK_BYTES,
        WORDS=_WORDS,
        P64_1=_P64_1,
        P64_2=_P64_2,
        P32_1=_P32_1,
        num_warps=4,
    )
    return hashes
