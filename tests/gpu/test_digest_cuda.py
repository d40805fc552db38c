"""The CUDA digest equals the CPU's, whatever the grouping of launches."""

import pytest
import torch

from theworld_validate.fingerprint.digest import DigestQueue, digest_tensor

pytestmark = pytest.mark.gpu

SHAPES = [(1,), (3,), (7, 5), (512,), (8191,), (8192,), (8193,), (100_001,), (2, 3, 4096)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8]


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def make(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * 50).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_to_the_cpu(dtype: torch.dtype) -> None:
    tensors = [make(shape, dtype) for shape in SHAPES]
    expected = [digest_tensor(t) for t in tensors]
    for max_held_bytes in (None, 0, 20_000):
        queue, seen = DigestQueue(max_held_bytes), [{} for _ in tensors]
        for tensor, into in zip(tensors, seen, strict=True):
            queue.add(tensor.cuda(), into)
        queue.finish()
        assert [into["digest"] for into in seen] == expected


def test_views_and_unaligned_tensors() -> None:
    base = make((4096, 3), torch.bfloat16)
    for view in (base.t(), base[1:], base.view(-1)[1:], base[:, 1], base[::2], base[:0]):
        assert digest_tensor(view.cuda()) == digest_tensor(view)
        assert digest_tensor(base.cuda().view(-1)[1:]) == digest_tensor(base.view(-1)[1:])


def test_what_lies_behind_the_end_does_not_matter() -> None:
    for length in (1, 2, 3, 513, 8195):
        whole = torch.randn(length + 64).to(torch.bfloat16)
        other = whole.clone()
        other[length:] += 1
        digests = {digest_tensor(w.cuda()[:length]) for w in (whole, other)}
        assert digests == {digest_tensor(whole[:length])}


def test_memory_may_be_reused_at_once() -> None:
    queue, seen = DigestQueue(max_held_bytes=0), [{} for _ in range(50)]
    expected = []
    for i, into in enumerate(seen):
        tensor = torch.full((1_000_000,), float(i), device="cuda")
        expected.append(digest_tensor(torch.full((1_000_000,), float(i))))
        queue.add(tensor, into)
        del tensor
    queue.finish()
    assert [into["digest"] for into in seen] == expected


def test_every_gpu_gives_the_same_whichever_is_current() -> None:
    """Triton launches on the current device: tensors of `device_map="auto"` lie on another one too."""
    tensor = make((100_001,), torch.bfloat16)
    seen: list[dict[str, str]] = [{} for _ in range(torch.cuda.device_count())]
    queue = DigestQueue(None)
    for i, into in enumerate(seen):
        queue.add(tensor.to(f"cuda:{i}"), into)
    queue.finish()
    assert [into["digest"] for into in seen] == [digest_tensor(tensor)] * len(seen)
