"""Weights are moved to aligned memory, and nothing else about them changes."""

from typing import Any

import pytest
import torch
from torch import nn

from theworld_validate.fingerprint.alignment import ALIGNMENT, align_weights


def at(offset: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of random values that begins `offset` elements after an aligned address."""
    num_elements = int(torch.tensor(shape).prod())
    whole = torch.randn(num_elements + offset).to(dtype)
    assert whole.data_ptr() % ALIGNMENT == 0
    return whole[offset:].view(shape)


def module_of(**tensors: torch.Tensor) -> Any:
    module = nn.Module()
    for name, tensor in tensors.items():
        module.register_parameter(name, nn.Parameter(tensor))
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unaligned_weights_are_moved_and_keep_everything(dtype: torch.dtype) -> None:
    module = module_of(a=at(2, 6, 4, dtype=dtype), b=at(0, 3, dtype=dtype), c=at(1, 4, 5, dtype=dtype).T)
    module.register_buffer("d", at(5, 7, dtype=dtype))
    kept = {name: (id(t), t.detach().clone(), t.stride()) for name, t in module.state_dict(keep_vars=True).items()}
    address_of_b = module.b.data_ptr()
    align_weights(module)
    for name, tensor in module.state_dict(keep_vars=True).items():
        same, values, stride = kept[name]
        assert (id(tensor), tensor.stride()) == (same, stride)
        assert torch.equal(tensor, values)
        assert tensor.data_ptr() % ALIGNMENT == 0
    assert module.b.data_ptr() == address_of_b
    assert module.a.requires_grad


def test_tensors_in_one_memory_stay_in_one_memory() -> None:
    shared = at(2, 4)
    module = module_of(a=shared, b=shared.view(4))
    align_weights(module)
    with torch.no_grad():
        module.a.fill_(7)
    assert module.b.tolist() == [7] * 4
    assert module.a.data_ptr() % ALIGNMENT == 0


def test_views_that_overlap_stay_where_they_are() -> None:
    flat = at(1, 30)
    module = module_of(a=flat[:20], b=flat[10:], c=at(1, 3))
    before = module.a.data_ptr(), module.b.data_ptr()
    align_weights(module)
    assert (module.a.data_ptr(), module.b.data_ptr()) == before
    assert module.c.data_ptr() % ALIGNMENT == 0


def test_what_has_no_memory_is_left_alone() -> None:
    module = module_of(a=torch.empty(3, device="meta"), b=torch.empty(0))
    with torch.inference_mode():
        module.register_buffer("c", at(1, 3))
    align_weights(module)
    assert module.a.is_meta
    assert module.c.is_inference()
