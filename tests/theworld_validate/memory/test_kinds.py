"""Adapters, layers in 4 bit, accumulation and evaluation: predicted as the same with real tensors allocates it."""

import contextlib
import gc
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world
from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.memory.test_families import load
from tests.theworld_validate.memory.test_predict import CPU_SCRATCH_BYTES, profiled_peak
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory import family_steps
from theworld_validate.memory.adapter_config import Adapter, read_adapter
from theworld_validate.memory.adapters import modules_restored
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import evaluate, forward_and_backward, prepare_model
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.cuda_routes import attention_as_on_cuda
from theworld_validate.memory.predict import Predictor
from theworld_validate.memory.quantised import FourBitLinear, _FourBitProduct, quantise
from theworld_validate.memory.replay import StepTrace
from theworld_validate.results import InputError
from theworld_validate.subjects.empty_models import blueprint_of_size

BRANCH = ("world_projection", "temporal_embedding")
LORA = Adapter(name="some", r=8, target_modules=("q_proj", "v_proj", "down_proj"), modules_to_save=BRANCH)
STEP = Cell(text_tokens=128, world_tokens=64, adapter=LORA)
OF_THE_WORLD = (
    replace(STEP, adapter=replace(LORA, lora_dropout=0.1)),
    replace(STEP, quantization="nf4", checkpointing=True),
    Cell(preset="full", text_tokens=128, world_tokens=64, accumulation=3),
    Cell(task="evaluate", text_tokens=128, world_tokens=64, batch=2),
)
OF_A_FAMILY = tuple(
    Cell(preset="none", text_tokens=200, world_tokens=0, batch=2, adapter=replace(LORA, modules_to_save=()), **more)
    for more in (
        {},
        {"quantization": "nf4"},
        {"quantization": "nf4", "task": "evaluate"},
        {"checkpointing": True, "accumulation": 2},
    )
)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(blueprint_of_size("tiny"))


@pytest.fixture(scope="module")
def real(tiny: SyntheticCheckpoint) -> Any:
    model = load_world(tiny, dtype=torch.bfloat16, world={})
    peak_of_real_step(model, Cell(preset="full", text_tokens=16, world_tokens=16))  # the libraries' first-time work
    return model


@pytest.fixture(scope="module")
def llama(tiny_of: Callable[[str], Path]) -> tuple[Any, Any]:
    config, model = load(tiny_of("LlamaForCausalLM"))
    peak_of_real_step(model, Cell(preset="full", text_tokens=16, world_tokens=0))
    return config, model


def peak_of_real_step(model: Any, cell: Cell) -> int:
    """Peak bytes of all batches of a step over what was there before; in 4 bit, with the layers that stand in."""
    with modules_restored(model):
        layers = quantise(model, is_the_worlds=cell.is_the_worlds) if cell.quantization == "nf4" else {}
        prepare_model(model, cell, custom_layers=layers)
        batches = [make_inputs(cell, model.config, device="cpu") for _ in range(cell.accumulation)]

        def run() -> None:
            with attention_as_on_cuda():
                for inputs in batches:
                    if cell.task == "evaluate":
                        evaluate(model, inputs, on_phase=lambda phase: None)
                    else:
                        autocast = contextlib.nullcontext()
                        forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=autocast)

        gc.collect()  # what an earlier profile saw allocated would be seen freed in this one
        peak = profiled_peak(run)
        model.zero_grad()
    return peak


def peak_of_trace(predictor: Predictor, cell: Cell) -> int:
    trace = predictor.trace(cell)
    assert isinstance(trace, StepTrace)
    allocated = peak = 0
    for event in trace.events:
        allocated += event.num_bytes
        peak = max(peak, allocated)
    return peak


@pytest.mark.parametrize("cell", OF_THE_WORLD, ids=lambda cell: cell.name)
def test_it_is_what_a_real_step_allocates(predictor: Predictor, real: Any, cell: Cell) -> None:
    expected = peak_of_real_step(real, cell)
    assert peak_of_trace(predictor, cell) == pytest.approx(expected, rel=2e-3, abs=CPU_SCRATCH_BYTES)


@pytest.mark.parametrize("cell", OF_A_FAMILY, ids=lambda cell: cell.name)
def test_it_is_what_a_step_of_another_family_allocates(llama: tuple[Any, Any], cell: Cell) -> None:
    config, model = llama
    own = [type(module) for module in model.modules()]
    expected = peak_of_real_step(model, cell)
    assert peak_of_trace(Predictor(config), cell) == pytest.approx(expected, rel=2e-3, abs=CPU_SCRATCH_BYTES)
    assert [type(module) for module in model.modules()] == own


def test_an_input_that_is_kept_would_show(llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons above can fail: a product in 4 bit that keeps a copy of its input is over them."""
    config, model = llama
    cell = OF_A_FAMILY[1]
    right = peak_of_trace(Predictor(config), cell)
    forward = _FourBitProduct.forward

    def keeping(ctx: Any, x: torch.Tensor, layer: FourBitLinear) -> torch.Tensor:
        ctx.save_for_backward(x.clone())
        return forward(ctx, x, layer)

    monkeypatch.setattr(_FourBitProduct, "forward", staticmethod(keeping))
    assert peak_of_real_step(model, cell) > 1.002 * right + CPU_SCRATCH_BYTES


def test_gradients_that_stay_would_show(llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = llama
    cell = Cell(preset="full", world_tokens=0, text_tokens=16, accumulation=2)
    right = peak_of_trace(Predictor(config), cell)
    assert right > peak_of_trace(Predictor(config), replace(cell, accumulation=1)) + CPU_SCRATCH_BYTES
    forward = family_steps.family_loss

    def forgetting(model: Any, inputs: dict[str, Any]) -> Any:
        model.zero_grad()
        return forward(model, inputs)

    monkeypatch.setattr(family_steps, "family_loss", forgetting)
    assert peak_of_trace(Predictor(config), cell) < right - CPU_SCRATCH_BYTES


def test_what_is_there_for_the_whole_step(llama: tuple[Any, Any]) -> None:
    config, _ = llama
    plain, four_bit = Predictor(config), replace(OF_A_FAMILY[0], quantization="nf4")
    whole, small = plain.predict(OF_A_FAMILY[0]), plain.predict(four_bit)
    linear = sum(
        module.weight.numel()
        for name, module in load_empty(config).named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    # 4 bit a weight; a byte for 64 of them, 4 for 256 of those, and 1,092 of tables for each layer.
    saved = whole.split_bytes["parameters"] - small.split_bytes["parameters"]
    assert saved == pytest.approx(linear * (2 - 0.5 - 1 / 64 - 4 / 64 / 256), abs=2000 * config.num_hidden_layers * 7)
    assert small.least_bytes < whole.least_bytes
    lora = config.num_hidden_layers * 8 * adapted_sides(config) * 4  # float32, as PEFT keeps them
    assert whole.split_bytes["optimizer_state"] == 2 * lora
    four = plain.predict(Cell(preset="full", world_tokens=0, text_tokens=16, accumulation=4))
    one = plain.predict(Cell(preset="full", world_tokens=0, text_tokens=16))
    assert four.split_bytes["inputs"] == 4 * one.split_bytes["inputs"]
    asked = plain.predict(Cell(task="evaluate", preset="none", world_tokens=0, text_tokens=16))
    assert set(asked.phase_peaks_bytes) == {"forward"}
    assert asked.split_bytes["workspace"] == one.split_bytes["workspace"] / 2  # no thread runs backward


def load_empty(config: Any) -> Any:
    from theworld_validate.memory.family_steps import build_without_data

    return build_without_data(config)[1]


def adapted_sides(config: Any) -> int:
    """Sum of both sides of the layers that `LORA` adapts, of one decoder layer."""
    width, inner = config.hidden_size, config.intermediate_size
    head = width // config.num_attention_heads
    return (width + config.num_attention_heads * head) + (width + config.num_key_value_heads * head) + (inner + width)


# Configs


def write(folder: Path, **fields: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], **fields}))
    return path


def test_a_config_as_peft_writes_it(tmp_path: Path) -> None:
    from peft import LoraConfig

    LoraConfig(
        r=4,
        target_modules=["v_proj"],
        modules_to_save=["lm_head"],
        lora_dropout=0.05,
        rank_pattern={"layers.0.*": 2},
        layers_to_transform=[0],
    ).save_pretrained(tmp_path)
    expected = Adapter(
        name=tmp_path.name,
        r=4,
        target_modules=("v_proj",),
        modules_to_save=("lm_head",),
        lora_dropout=0.05,
        rank_pattern=(("layers.0.*", 2),),
        layers_to_transform=(0,),
    )
    assert read_adapter(str(tmp_path), is_the_worlds=False) == expected
    assert read_adapter(str(tmp_path / "adapter_config.json"), is_the_worlds=True) == expected
    assert expected.title == f"LoRA r=4 ({tmp_path.name})"
    assert read_adapter("lora:16", is_the_worlds=False).title == "LoRA r=16"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3, and memory is known of LORA"),
        ({"r": "4"}, "field r: input should be a valid integer"),
        ({"r": 0}, "field r: a rank is a number from 1 to 65,536"),
        ({"lora_dropout": 1}, "field lora_dropout: a share is from 0 up to 1"),
        ({"bias": "some"}, "field bias is some; there are none, all, lora_only"),
        ({"target_modules": [1]}, "field target_modules"),
        ({"use_dora": True}, "field use_dora: what it takes is not known; leave it out"),
        ({"layer_replication": [[0, 2]]}, "field layer_replication: what it takes is not known"),
    ],
)
def test_a_config_that_is_none_is_one_line(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_adapter(str(write(tmp_path, **fields)), is_the_worlds=False)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--adapter {tmp_path}/adapter_config.json: ")
    assert len(str(caught.value).splitlines()) == 1


def test_an_adapter_that_does_not_fit_and_a_library_that_is_not_there(
    llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = llama
    cell = replace(OF_A_FAMILY[0], adapter=Adapter(name="x", target_modules=("no_such",)))
    with pytest.raises(InputError, match=r"--adapter x does not fit LlamaForCausalLM: .*no_such"):
        Predictor(config).predict(cell)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="--adapter needs PEFT, which is not installed; pip install 'peft"):
        Predictor(config).predict(OF_A_FAMILY[0])


def test_the_command(tiny_of: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = write(tmp_path, r=2)
    llama = ("memory", "predict", "--model", tiny_of("LlamaForCausalLM"), "--text-tokens", 16)
    asked = ("--adapter", adapter, "--quantization", "nf4", "--checkpointing", "off", "--gpu", "0.001", "--json")
    result = invoke(*llama, *asked)
    assert result.exit_code == 1, result.stderr
    (check,) = json.loads(result.stdout)["checks"]
    assert check["measurements"]["cells"][0]["configuration"] == f"LoRA r=2 ({tmp_path.name}) + 4 bit"
    for options, message in (
        (("--adapter", tmp_path / "none"), "none: missing"),
        (("--adapter", "lora:0"), "a rank is a number from 1"),
        (("--adapter", adapter, "--preset", "full"), "--preset and --adapter both say what trains"),
        (("--quantization", "nf4"), "layers in 4 bit do not train; give an adapter too"),
        (("--quantization", "int3"), "no quantization is named 'int3'; there are none, nf4"),
        (("--accumulation", 0), "accumulation must be a whole number from 1"),
        (("--accumulation", 2, "--lengths", "uniform:1:9"), "--lengths is of steps of one batch"),
        (("--task", "evaluate", "--optimizer", "adamw"), "--optimizer is of --task train"),
    ):
        given = llama if "--lengths" not in options else llama[:-2]
        assert_input_error(invoke(*given, *options), message)
