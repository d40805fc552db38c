"""The CUDA sketch is the CPU's within the stated bound, through the queue that also digests."""

from typing import Any

import numpy as np
import pytest
import torch

from theworld_validate.documents.sketches import CHUNK_ELEMENTS, unpack
from theworld_validate.fingerprint.digest import DigestQueue
from theworld_validate.fingerprint.sketch import DEVICES_DIFFER_BY, SketchBook, sketch_tensor

pytestmark = pytest.mark.gpu

SHAPES = [(1,), (7, 5), (CHUNK_ELEMENTS + 1,), (3, 65, CHUNK_ELEMENTS), (2, 300_000), (128, CHUNK_ELEMENTS)]


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("deterministic", [False, True])
def test_equal_to_the_cpu(dtype: torch.dtype, deterministic: bool) -> None:
    tensors = [(50 * torch.randn(shape, generator=torch.Generator().manual_seed(i))).to(dtype)
               for i, shape in enumerate(SHAPES)]  # fmt: skip
    torch.use_deterministic_algorithms(deterministic, warn_only=False)
    try:
        for max_held_bytes in (None, 0):
            book = SketchBook()
            queue = DigestQueue(max_held_bytes, sketches=book)
            seen: list[dict[str, Any]] = [{} for _ in tensors]
            for tensor, into in zip(tensors, seen, strict=True):
                queue.add(tensor.cuda(), into)
            queue.finish()
            for tensor, into in zip(tensors, seen, strict=True):
                made, expected = book.sketches[into["digest"]], sketch_tensor(tensor)
                apart = np.linalg.norm(unpack(made) - unpack(expected))
                assert apart <= DEVICES_DIFFER_BY * float(tensor.double().norm())
                assert (made.dtype, made.elements) == (expected.dtype, expected.elements)
    finally:
        torch.use_deterministic_algorithms(False)


def test_chunks_that_are_not_finite_are_counted() -> None:
    tensor = torch.ones(5 * CHUNK_ELEMENTS, dtype=torch.bfloat16)
    tensor[3] = float("nan")
    tensor[CHUNK_ELEMENTS * 4] = float("inf")
    assert sketch_tensor(tensor.cuda()).non_finite_chunks == sketch_tensor(tensor).non_finite_chunks == 2


def test_sketched_on_a_gpu_that_is_not_the_current_one() -> None:
    tensor = torch.randn(3, 300_000, generator=torch.Generator().manual_seed(0))
    made = sketch_tensor(tensor.to(f"cuda:{torch.cuda.device_count() - 1}"))
    assert np.linalg.norm(unpack(made) - unpack(sketch_tensor(tensor))) <= DEVICES_DIFFER_BY * float(tensor.norm())
