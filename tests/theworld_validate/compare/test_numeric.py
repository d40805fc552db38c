"""Two tensors measured on their bits."""

import pytest
import torch

from theworld_validate.compare.numeric import measure_difference


def test_equal_tensors_have_no_difference() -> None:
    tensor = torch.randn(3, 4)
    assert measure_difference(tensor, tensor.clone()).share == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_ulp_is_one_ulp_across_zero_too(dtype: torch.dtype) -> None:
    integer = {2: torch.int16, 4: torch.int32}[torch.empty(0, dtype=dtype).element_size()]
    expected = torch.ones(2, 5, dtype=dtype)
    actual = expected.clone()
    actual.view(integer)[1, 3] += 1
    difference = measure_difference(expected, actual)
    assert (difference.median_ulp, difference.max_ulp, difference.share) == (1, 1, 0.1)
    assert difference.example_index == (1, 3)
    assert difference.max_abs == float(actual[1, 3] - 1)
    smallest = torch.zeros(1, dtype=dtype)
    smallest.view(integer)[0] = 1
    assert measure_difference(-smallest, smallest).max_ulp == 2


def test_signed_zero_and_nan_are_told_apart() -> None:
    zero = torch.zeros(4)
    assert measure_difference(zero, -zero).share == 1
    assert measure_difference(zero, -zero).max_abs == 0
    nan = torch.tensor([float("nan"), 1.0])
    assert measure_difference(nan, nan.clone()).share == 0
    with_nan = measure_difference(torch.ones(2), nan)
    assert (with_nan.max_abs, with_nan.share, with_nan.example_index) == (None, 0.5, (0,))


def test_integers_have_no_ulp() -> None:
    difference = measure_difference(torch.tensor([1, 2, 3]), torch.tensor([1, 5, 3]))
    assert (difference.max_abs, difference.max_ulp, difference.example_index) == (3.0, None, (1,))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        measure_difference(torch.zeros(2), torch.zeros(3))
