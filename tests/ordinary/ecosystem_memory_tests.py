"""Memory's stand-ins for bitsandbytes, byte by byte against what it holds on a CPU: `nox -s ecosystem`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory.adapter_config import read_adapter
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.optimizers import Learning, find_embeddings, make_optimizer, states_of
from theworld_validate.memory.quantised import FourBitLinear, quantise, tensors_beside
from theworld_validate.subjects.empty_models import build_without_data
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET

pytestmark = pytest.mark.filterwarnings("default")  # these libraries' own warnings are theirs
QLORA = Cell(text_tokens=16, world_tokens=16, adapter=read_adapter("lora:4", is_the_worlds=True), quantization="nf4")
FULL = Cell(preset="full", text_tokens=16, world_tokens=16)


def load(tiny: SyntheticCheckpoint, quantization: str | None) -> Any:
    return Subject(
        target=CANDIDATE_TARGET,
        checkpoint=str(tiny.gemma),
        cosmos=str(tiny.cosmos),
        dtype="bfloat16",
        quantization=quantization,
    ).load()


def sizes(tensors: Any) -> list[int]:
    return sorted(tensor.untyped_storage().nbytes() for tensor in tensors)


def shapes(model: Any, *, trains: bool) -> dict[str, Any]:
    return {name: (p.dtype, tuple(p.shape)) for name, p in model.named_parameters() if p.requires_grad or not trains}


def test_layers_in_4_bit_hold_what_bitsandbytes_holds(tiny: SyntheticCheckpoint) -> None:
    model = load(tiny, "nf4")
    theirs = {name: module for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    held = {name: sizes((module.weight, *tensors_beside(module))) for name, module in theirs.items()}
    before = shapes(model, trains=False)
    prepare_model(model, QLORA)
    mode, empty = build_without_data(model.config)
    with mode:
        custom_layers = quantise(empty, is_the_worlds=True)
        mine = {name: module for name, module in empty.named_modules() if isinstance(module, FourBitLinear)}
        assert {name: sizes((module.weight, *module.buffers())) for name, module in mine.items()} == held
        assert shapes(empty, trains=False) == before
        prepare_model(empty, QLORA, custom_layers=custom_layers)
    assert shapes(empty, trains=True) == shapes(model, trains=True)


@pytest.mark.parametrize("cell", [QLORA, FULL], ids=lambda cell: cell.name)
def test_states_in_8_bit_are_those_of_a_step(tiny: SyntheticCheckpoint, cell: Cell) -> None:
    model = load(tiny, "nf4" if cell.quantization == "nf4" else None)
    prepare_model(model, cell)
    inputs = make_inputs(cell, model.config, device="cpu")
    forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=contextlib.nullcontext())
    optimizer = make_optimizer(model, "adamw-8bit", learning_rate=1e-5)
    optimizer.step()
    learning = [parameter for parameter in model.parameters() if parameter.grad is not None]
    embeddings = find_embeddings(model)
    asked = states_of(
        [Learning(elements=p.numel(), item_bytes=p.element_size(), is_embedding=id(p) in embeddings) for p in learning],
        "adamw-8bit",
    )
    assert sizes(_states(optimizer)) == sorted(request.num_bytes for request in asked)


def _states(optimizer: Any) -> Iterator[torch.Tensor]:
    seen = set()
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                yield value
