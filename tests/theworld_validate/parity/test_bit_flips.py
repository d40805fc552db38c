"""Property: any flipped bit of any parameter or buffer is found, and found where it is."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import Gemma3ForConditionalGeneration

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.state import fingerprint_state

NUM_CASES = 500
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@pytest.fixture(scope="module")
def model_and_state(tiny: SyntheticCheckpoint) -> tuple[Any, Fingerprint]:
    model = Gemma3ForConditionalGeneration.from_pretrained(tiny.gemma, dtype=torch.bfloat16)
    return model, fingerprint_state(model)


@settings(max_examples=NUM_CASES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_any_flipped_bit_is_found_where_it_is(model_and_state: tuple[Any, Fingerprint], data: st.DataObject) -> None:
    model, before = model_and_state
    tensors = {
        **{("parameters", name): parameter for name, parameter in model.named_parameters()},
        **{("buffers", name): buffer for name, buffer in model.named_buffers()},
    }
    layer, name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[layer, name].detach()
    words = tensor.view(_INTEGERS[tensor.element_size()]).view(-1)
    index = data.draw(st.integers(0, words.numel() - 1))
    bit = data.draw(st.integers(0, 8 * tensor.element_size() - 1))
    mask = torch.tensor(-(1 << 63) if bit == 63 else 1 << bit).to(words.dtype)
    words[index] ^= mask
    try:
        after = fingerprint_state(model)
        found = [
            f for name_ in before.sections for f in diff_section(name_, before.sections[name_], after.sections[name_])
        ]
        assert [(f.code, f.location) for f in found] == [(f"{layer}.digest", name)]
    finally:
        words[index] ^= mask
