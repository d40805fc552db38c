"""Measuring adapters, accumulation, evaluation and the 8-bit optimizer, with a CUDA device that is made up."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.theworld_validate.memory.test_families import load
from tests.theworld_validate.memory.test_measure import cuda  # noqa: F401 - a fixture
from theworld_validate.memory.adapter_config import Adapter
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.checks import check_measured
from theworld_validate.memory.in_workers import measure_share
from theworld_validate.memory.measure import measure_cells
from theworld_validate.memory.optimizers import (
    Learning,
    Request,
    make_optimizer,
    require_bitsandbytes,
    states_of,
    temporaries_of,
)
from theworld_validate.memory.predict import Predictor
from theworld_validate.memory.quantised import tensors_beside
from theworld_validate.results import InputError

LORA = Adapter(name="some", r=2, target_modules=("q_proj",))


@pytest.fixture(scope="module")
def model(tiny_of: Callable[[str], Path]) -> Any:
    return load(tiny_of("LlamaForCausalLM"))[1]


@pytest.mark.usefixtures("cuda")
def test_each_kind_is_measured_and_leaves_the_model_as_it_was(model: Any) -> None:
    before = {name: parameter.dtype for name, parameter in model.named_parameters()}
    lora = Cell(preset="none", text_tokens=8, world_tokens=0, adapter=LORA)
    cells = [
        lora,
        replace(lora, precision="mixed", checkpointing=True),
        Cell(preset="full", text_tokens=8, world_tokens=0, accumulation=3),
        Cell(task="evaluate", preset="none", text_tokens=8, world_tokens=0),
    ]
    found = {step.cell: step for step in measure_cells(model, cells)}
    assert [(step.error, step.out_of_memory) for step in found.values()] == [(None, None)] * 4
    assert {name: parameter.dtype for name, parameter in model.named_parameters()} == before
    assert not [module for module in model.modules() if "lora" in type(module).__module__]
    assert set(found[cells[2]].phase_peaks_bytes) == {"forward", "backward", "optimizer", "zero_grad"}
    assert set(found[cells[3]].phase_peaks_bytes) == {"forward"}
    (check,) = check_measured(model, cells[3:])
    assert set(check.measurements["phase_peaks"][0]) >= {"forward_bytes"}  # pyrefly: ignore
    assert "backward_bytes" not in check.measurements["phase_peaks"][0]  # pyrefly: ignore


@pytest.mark.usefixtures("cuda")
def test_an_adapter_that_does_not_fit_is_bad_input(model: Any) -> None:
    cell = Cell(preset="none", text_tokens=8, world_tokens=0, adapter=replace(LORA, target_modules=("none_such",)))
    with pytest.raises(InputError, match="--adapter some does not fit"):
        list(measure_cells(model, [cell]))


def test_batches_are_as_many_and_trained_on_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from theworld_validate.memory import measured_steps
    from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model

    def begin(peaks: Any, phase: str) -> None:
        peaks.phase_started_us[phase] = 1.0

    monkeypatch.setattr(measured_steps.PhasePeaks, "_begin", begin)
    monkeypatch.setattr(measured_steps.PhasePeaks, "_end", lambda self: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls: list[str] = []

    def counted(*arguments: Any, **more: Any) -> None:
        calls.append("batch")
        forward_and_backward(*arguments, **more)

    monkeypatch.setattr(measured_steps, "forward_and_backward", counted)
    cell = Cell(preset="full", text_tokens=8, world_tokens=0, accumulation=3)
    prepare_model(model, cell)
    step = measured_steps.run_of(model, cell)
    assert isinstance(step, measured_steps.Step)
    step.batches = measured_steps.make_batches(model, cell)
    original = step.optimizer.step
    monkeypatch.setattr(step.optimizer, "step", lambda: (calls.append("step"), original()))
    step.run()
    assert calls == ["batch", "batch", "batch", "step"]


# The 8-bit optimizer. Bytes as bitsandbytes 0.50 has them for these sizes (on the CPU, whose layout is the same).

LEARNING = [
    Learning(elements=4095, item_bytes=2),
    Learning(elements=4096, item_bytes=2),
    Learning(elements=4097, item_bytes=2),
    Learning(elements=8192, item_bytes=2, is_embedding=True),
]


def test_states_in_8_bit_are_those_of_bitsandbytes() -> None:
    states = [(request.name, request.num_bytes) for request in states_of(LEARNING, "adamw-8bit")]
    assert states == [
        *(("state1", 16380), ("state2", 16380)),
        *(("qmap1", 1024), ("qmap2", 1024)),
        *(("state1", 4096), ("state2", 4096), ("absmax1", 64), ("absmax2", 64)),
        *(("state1", 4097), ("state2", 4097), ("absmax1", 68), ("absmax2", 68)),
        *(("state1", 32768), ("state2", 32768)),  # of an embedding, in 32 bit
    ]
    assert list(temporaries_of(LEARNING, "adamw-8bit")) == []


def test_square_roots_are_taken_dtype_by_dtype() -> None:
    mixed = [Learning(elements=3, item_bytes=4), Learning(elements=5, item_bytes=2), Learning(elements=7, item_bytes=4)]
    sizes = [[request.num_bytes for request in together] for together in temporaries_of(mixed, "adamw")]
    assert sizes == [[12, 28], [10]]
    assert next(iter(states_of(mixed, "adamw"))) == Request(name="exp_avg", num_bytes=12)


def test_embeddings_are_known_without_data(tiny_of: Callable[[str], Path]) -> None:
    config, model = load(tiny_of("LlamaForCausalLM"))
    cell = Cell(preset="full", text_tokens=8, world_tokens=0, optimizer="adamw-8bit")
    predicted = Predictor(config).predict(cell)
    every = {id(p): p for p in model.parameters()}.values()
    asked = [
        Learning(elements=p.numel(), item_bytes=2, is_embedding=p is model.get_input_embeddings().weight) for p in every
    ]
    assert predicted.split_bytes["optimizer_state"] == sum(r.num_bytes for r in states_of(asked, "adamw-8bit"))
    assert "optimizer" in predicted.phase_peaks_bytes


def test_embeddings_stay_in_32_bit_as_trainer_has_them(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    manager = SimpleNamespace(
        initialize=lambda: seen.append("forgotten"),
        register_module_override=lambda module, name, config: seen.append((module, name, config)),
    )
    optim = SimpleNamespace(
        GlobalOptimManager=SimpleNamespace(get_instance=lambda: manager), AdamW8bit=torch.optim.AdamW
    )
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=optim))  # pyrefly: ignore
    require_bitsandbytes("--optimizer adamw-8bit")
    model.requires_grad_(True)
    made = make_optimizer(model, "adamw-8bit", learning_rate=1e-3)
    assert len(made.param_groups[0]["params"]) == len(list(model.parameters()))
    assert seen == ["forgotten", (model.get_input_embeddings(), "weight", {"optim_bits": 32})]


@pytest.mark.parametrize(
    ("cell", "option"),
    [
        (Cell(optimizer="adamw-8bit"), "--optimizer adamw-8bit"),
        (Cell(adapter=LORA, quantization="nf4"), "--quantization nf4"),
    ],
)
def test_a_library_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, cell: Cell, option: str) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("theworld_validate.environment.describe_environment", dict)
    with pytest.raises(InputError) as caught:
        list(measure_share(None, [cell], None))
    expected = f"{option} is measured with bitsandbytes, which is not installed; pip install bitsandbytes"
    assert str(caught.value) == expected


def test_what_a_layer_in_4_bit_holds_is_its_own() -> None:
    nested = SimpleNamespace(absmax=torch.zeros(2), code=torch.zeros(256), offset=None)
    weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    weight.quant_state = SimpleNamespace(  # pyrefly: ignore
        absmax=torch.zeros(512), code=torch.zeros(16), offset=torch.zeros(()), state2=nested
    )
    layer = torch.nn.Module()
    layer.weight = weight
    assert sorted(tensor.numel() for tensor in tensors_beside(layer)) == [1, 2, 16, 256, 512]
    assert list(tensors_beside(torch.nn.Linear(2, 2))) == []
