"""How much two tensors differ, counted on their bits.

In: two tensors of one shape and dtype. Out: a `Difference`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two tensors of one shape and dtype differ.

    Args:
        max_abs: the largest absolute difference; None if a NaN or infinity is among those that differ.
        median_ulp, max_ulp: units in the last place between elements that differ; None for integers.
        share: of elements that differ in their bits, 0 to 1.
        example_index: where the largest difference is.
    """

    max_abs: float | None
    median_ulp: int | None
    max_ulp: int | None
    share: float
    example_index: tuple[int, ...]


def measure_difference(expected: "torch.Tensor", actual: "torch.Tensor") -> Difference:
    """Compare two tensors by their bits, and measure the difference.

    A float's distance in ulp is that of its bits read as sign and magnitude: floats of one dtype, in order, are
    consecutive integers.

    Raises:
        ValueError: if dtype or shape differ.
    """
    import torch

    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        raise ValueError(f"cannot compare {expected.dtype}{[*expected.shape]} and {actual.dtype}{[*actual.shape]}")
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[expected.element_size()]
    bits = [tensor.contiguous().view(integer).to(torch.int64).flatten() for tensor in (expected, actual)]
    differs = bits[0] != bits[1]
    num_differing = int(differs.sum())
    if not num_differing:
        return Difference(max_abs=0.0, median_ulp=0, max_ulp=0, share=0.0, example_index=())
    distance = (expected.double() - actual.double()).abs().flatten()
    largest = int(torch.where(differs, distance.nan_to_num(nan=float("inf")), -1.0).argmax())
    ulp = None
    if expected.is_floating_point():
        lowest = torch.iinfo(integer).min
        ordered = [torch.where(b < 0, lowest - b, b) for b in bits]
        ulp = (ordered[0] - ordered[1]).abs()[differs]
    max_abs = float(distance[differs].max())
    return Difference(
        max_abs=max_abs if max_abs < float("inf") else None,
        median_ulp=None if ulp is None else int(ulp.median()),
        max_ulp=None if ulp is None else int(ulp.max()),
        share=num_differing / expected.numel(),
        example_index=tuple(int(i) for i in torch.unravel_index(torch.tensor(largest), expected.shape)),
    )
