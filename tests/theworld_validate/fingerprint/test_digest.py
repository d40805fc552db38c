"""The digest depends on every bit, order, dtype and shape."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theworld_validate.fingerprint.digest import describe_shape, digest_tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8]


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_bytes_equal_digests(dtype: torch.dtype) -> None:
    tensor = torch.randn(4, 6).to(dtype)
    assert digest_tensor(tensor) == digest_tensor(tensor.clone())
    assert digest_tensor(tensor.t().contiguous().t()) == digest_tensor(tensor), "layout in memory does not matter"


def test_what_values_do_not_show_does_show() -> None:
    zero = torch.zeros(3)
    nan = torch.full((3,), float("nan"))
    digests = [
        digest_tensor(t)
        for t in (
            zero,
            -zero,
            zero.to(torch.bfloat16),
            zero.to(torch.int32),
            zero.view(3, 1),
            nan,
            torch.tensor([1.0, 2.0, 3.0]),
            torch.tensor([2.0, 1.0, 3.0]),
            torch.zeros(0),
            torch.zeros(0, 5),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert digest_tensor(nan) == digest_tensor(nan.clone())


@given(st.integers(0, 999), st.integers(0, 31), st.sampled_from([1, 7, 1000]))
def test_any_flipped_bit_shows(index: int, bit: int, length: int) -> None:
    tensor = torch.arange(length, dtype=torch.float32)
    before = digest_tensor(tensor)
    tensor.view(torch.int32)[index % length] ^= (1 << bit) if bit < 31 else -(1 << 31)
    assert digest_tensor(tensor) != before


def test_meta_has_no_bits() -> None:
    with pytest.raises(ValueError, match="no bits to digest"):
        digest_tensor(torch.zeros(2, device="meta"))


def test_shape_is_written_plainly() -> None:
    assert describe_shape(torch.zeros(2, 3, dtype=torch.bfloat16)) == "bfloat16[2, 3]"
