"""The digest depends on every bit, order, dtype and shape."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theworld_validate.fingerprint.digest import DigestQueue, describe_shape, digest_tensor
from theworld_validate.fingerprint.tensor_parts import NoBits

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


def test_a_tensor_made_of_others_has_the_digest_of_its_parts() -> None:
    """As a quantised or distributed weight is: it has no memory of its own, and reading there would end the process."""
    from torch.testing._internal.two_tensor import TwoTensor

    one, other = torch.randn(3, 4), torch.randn(3, 4)
    digest = digest_tensor(TwoTensor(one, other))
    assert digest == digest_tensor(torch.nn.Parameter(TwoTensor(one.clone(), other.clone())))
    assert digest not in (digest_tensor(one), digest_tensor(other))
    assert digest != digest_tensor(TwoTensor(other, one))
    changed = other.clone()
    changed[2, 3] = -changed[2, 3]
    assert digest != digest_tensor(TwoTensor(one, changed))
    nested = TwoTensor(TwoTensor(one, other), TwoTensor(other, one))
    assert digest_tensor(nested) != digest_tensor(TwoTensor(TwoTensor(one, other), TwoTensor(one, other)))


def test_a_subclass_with_memory_of_its_own_is_digested_as_what_it_is() -> None:
    class Weight(torch.nn.Parameter):
        pass

    tensor = torch.randn(3, 4)
    assert digest_tensor(tensor.as_subclass(Weight)) == digest_tensor(tensor)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says of sparse and quantised tensors that they may change
def test_other_layouts_are_digested_by_what_they_hold() -> None:
    tensor = torch.eye(4)
    assert digest_tensor(tensor.to_sparse()) == digest_tensor(tensor)
    pair = torch.complex(tensor, tensor + 1)
    assert digest_tensor(pair.conj()) == digest_tensor(torch.complex(tensor, -tensor - 1)) != digest_tensor(pair)


class Bare(torch.Tensor):
    """A wrapper without parts: there is nothing to read."""

    @staticmethod
    def __new__(cls, shape: tuple[int, ...]) -> "Bare":
        return torch.Tensor._make_wrapper_subclass(cls, shape)

    @classmethod
    def __torch_dispatch__(cls, function: object, types: object, args: tuple = (), kwargs: object = None) -> object:
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError


def test_what_has_no_bits_is_said_and_not_read() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(3)
    for tensor in (fake, Bare((2, 2))):
        with pytest.raises(NoBits, match="no bits that can be read"):
            digest_tensor(tensor)


def test_a_queue_goes_on_behind_what_has_no_bits() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    queue, seen = DigestQueue(), {}
    with pytest.raises(NoBits):
        queue.add(TwoTensor(torch.zeros(2, device="meta"), torch.zeros(2, device="meta")), {})
    queue.add(torch.ones(2), seen)
    queue.finish()
    assert seen["digest"] == digest_tensor(torch.ones(2))
