"""Sketches: distances of tensors that never met, the same on every device, and what is not finite."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from theworld_validate.documents.sketches import (
    CHUNK_ELEMENTS,
    DISTANCE_ERROR,
    WIDTH,
    Sketch,
    distance_between,
    norm_of,
    unpack,
    why_no_sketch,
)
from theworld_validate.fingerprint.digest import DigestQueue, digest_tensor
from theworld_validate.fingerprint.sketch import (
    DEVICES_DIFFER_BY,
    SketchBook,
    sketch_on_device,
    sketch_tensor,
)

SHAPES = [(1,), (7, 5), (CHUNK_ELEMENTS,), (CHUNK_ELEMENTS + 1,), (3, 65, CHUNK_ELEMENTS), (2, 300_000)]


def draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_distances_are_right_within_their_error() -> None:
    """The estimates' mean and spread over many pairs are what the formula says."""
    errors = []
    for seed in range(200):
        one = draw((20, 500), seed)
        other = one + 1e-3 * draw((20, 500), 1000 + seed)
        true = float((one.double() - other.double()).norm())
        errors.append(distance_between(sketch_tensor(one), sketch_tensor(other)) / true - 1)
    assert abs(np.mean(errors)) < 4 * DISTANCE_ERROR / math.sqrt(len(errors))
    assert 0.8 * DISTANCE_ERROR < np.std(errors) < 1.2 * DISTANCE_ERROR


def test_rows_that_repeat_each_other_cost_no_more_than_is_said() -> None:
    """The same values in every chunk, as an outlier channel has them: at most sqrt(3) times the error."""
    rows = [draw((CHUNK_ELEMENTS,), seed).expand(40, -1).contiguous() for seed in range(60)]
    errors = [norm_of(sketch_tensor(row)) / float(row.norm()) - 1 for row in rows]
    assert np.std(errors) < 1.2 * math.sqrt(3) * DISTANCE_ERROR


def test_one_element_is_found_exactly() -> None:
    tensor = draw((3, 300_000), 0)
    other = tensor.clone()
    other[2, 123_456] += 0.5
    apart = float((tensor.double() - other.double()).norm())
    assert distance_between(sketch_tensor(tensor), sketch_tensor(other)) == pytest.approx(apart, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_products_on_a_device_give_what_the_cpu_gives(dtype: torch.dtype) -> None:
    tensors = [(50 * draw(shape, i)).to(dtype) for i, shape in enumerate(SHAPES)]
    sums, non_finite = sketch_on_device(tensors)
    for row, tensor in zip(sums.numpy(), tensors, strict=True):
        expected = unpack(sketch_tensor(tensor))
        assert np.linalg.norm(row - expected) <= DEVICES_DIFFER_BY * float(tensor.double().norm())
    assert non_finite.tolist() == [0] * len(tensors)


def test_it_is_of_the_values_in_order_and_of_nothing_else() -> None:
    tensor = draw((40, 30), 0)
    assert sketch_tensor(tensor.t().contiguous().t()) == sketch_tensor(tensor)
    assert sketch_tensor(tensor).values != sketch_tensor(tensor.t()).values
    state = torch.get_rng_state()
    sketch_tensor(tensor)
    assert torch.equal(torch.get_rng_state(), state)


def test_these_bits_stay_what_they_are_in_every_release() -> None:
    """Documents of other releases are compared: the hash may not change."""
    values = unpack(sketch_tensor(torch.arange(1, 20_001, dtype=torch.float32)))
    assert (values.sum(), values[0], values[127]) == (2_291_764, -269_462, -23_262)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_chunks_that_are_not_finite_are_counted_and_left_out(bad: float) -> None:
    tensor = draw((5 * CHUNK_ELEMENTS,), 0)
    without = tensor.clone()
    without[CHUNK_ELEMENTS : 2 * CHUNK_ELEMENTS] = 0
    tensor[CHUNK_ELEMENTS + 3] = bad
    seen = sketch_tensor(tensor)
    assert seen.non_finite_chunks == 1
    assert distance_between(seen, sketch_tensor(without)) == 0
    sums, non_finite = sketch_on_device([tensor])
    assert non_finite.tolist() == [1]
    assert np.allclose(sums[0].numpy(), unpack(seen), rtol=1e-6, atol=1e-6)


def test_a_queue_sketches_what_has_numbers_once_for_each_digest() -> None:
    book = SketchBook()
    queue = DigestQueue(sketches=book)
    tensor = draw((4, 4), 0)
    for value in (tensor, tensor.clone(), torch.arange(4), torch.zeros(0), tensor.bfloat16()):
        queue.add(value, {})
    queue.finish()
    assert set(book.sketches) == {digest_tensor(tensor), digest_tensor(tensor.bfloat16())}
    assert book.sketches[digest_tensor(tensor)] == sketch_tensor(tensor)


def test_what_is_launched_has_the_digests_that_come_later() -> None:
    tensors = [draw((100,), 0), torch.arange(3), draw((5000,), 1)]
    places: list[dict[str, Any]] = [{} for _ in tensors]
    book = SketchBook()
    book.launch(tensors, places)
    for place, tensor in zip(places, tensors, strict=True):
        place["digest"] = digest_tensor(tensor)
    book.finish()
    assert set(book.sketches) == {places[0]["digest"], places[2]["digest"]}
    assert book.sketches[places[2]["digest"]].elements == 5000


def test_what_has_no_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torch.int64 tensor of 3 elements has no sketch"):
        sketch_tensor(torch.arange(3))


@pytest.mark.parametrize("sketch_it", ["on_cpu", "on_device"])
def test_what_is_too_large_to_add_up_is_left_out_as_an_infinity_is(sketch_it: str) -> None:
    """A mask of float64, as eager attention has it in a truth."""
    mask = torch.zeros(3 * CHUNK_ELEMENTS, dtype=torch.float64)
    mask[CHUNK_ELEMENTS : CHUNK_ELEMENTS + 40] = torch.finfo(torch.float64).min
    mask[-1] = 7.0
    if sketch_it == "on_cpu":
        made = sketch_tensor(mask)
        values, bad = unpack(made), made.non_finite_chunks
        assert why_no_sketch(made) is None
    else:
        sums, counts = sketch_on_device([mask])
        values, bad = sums[0].numpy(), int(counts[0])
    assert bad == 1
    assert abs(values).sum() == 7.0


def test_sketches_of_different_sizes_have_no_distance() -> None:
    with pytest.raises(ValueError, match="3 and 4 elements"):
        distance_between(sketch_tensor(torch.ones(3)), sketch_tensor(torch.ones(4)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"values": "no base64!"}, "no base64"),
        ({"values": "AAAA"}, f"3 bytes, expected {8 * WIDTH}"),
        ({"elements": 0}, "counts"),
        ({"non_finite_chunks": 2}, "counts"),
    ],
)
def test_a_damaged_sketch_is_named(change: dict[str, Any], problem: str) -> None:
    good = sketch_tensor(torch.ones(3))
    assert why_no_sketch(good) is None
    assert problem in str(why_no_sketch(replace(good, **change)))


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 4, 3, 5), (6, 7)])
def test_padding_is_sketched_as_zeros(shape: tuple[int, ...]) -> None:
    padding = torch.tensor([[True, True, False], [False, False, False]])
    tensor = draw(shape, 0)
    garbage, other = tensor.clone(), tensor.clone()
    at_padding = {3: (0, slice(2)), 4: (0, slice(None), slice(2)), 2: (slice(2),)}[len(shape)]
    garbage[at_padding] = 1e30
    other.view(-1)[-1] += 1
    made = [sketch_beside(padding, value) for value in (tensor, garbage, other)]
    assert made[0] == made[1] != made[2]
    assert (tensor[at_padding] != 0).all(), "the model's own tensor stays as it is"


@pytest.mark.parametrize("shape", [(), (2,), (5, 3), (2, 4, 8), (2, 4, 7, 5)])
def test_what_has_no_padding_is_sketched_whole(shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape)
    assert sketch_beside(torch.tensor([[True, True, False], [False, False, False]]), tensor) == sketch_tensor(tensor)


def test_a_cache_that_holds_the_end_of_a_prompt_has_the_padding_of_its_end() -> None:
    padding = torch.tensor([[False, False, True], [False, False, False]])
    cache = torch.ones(2, 4, 2, 5)
    zeros = cache.clone()
    zeros[0, :, 1] = 0
    assert sketch_beside(padding, cache) == sketch_tensor(zeros)


def sketch_beside(padding: torch.Tensor, tensor: torch.Tensor) -> Sketch:
    book = SketchBook(padding)
    book.add(tensor, {"digest": "0"})
    return book.sketches["0"]
