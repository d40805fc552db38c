"""Memory of models of other families: against a real run, and what is TheWorld's own says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.memory.test_measure import cuda  # noqa: F401 - a fixture
from tests.theworld_validate.memory.test_predict import CPU_SCRATCH_BYTES, peak_of_real_run
from theworld_validate.memory.answers import Question, answer_all
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cells import Cell, build_family_matrix
from theworld_validate.memory.measure import measure_cells
from theworld_validate.memory.predict import Predictor
from theworld_validate.results import InputError
from theworld_validate.subjects.architectures import architecture_of

TinyOf = Callable[[str], Path]
PART_OF = {"LlamaForCausalLM": "model.layers", "LlavaForConditionalGeneration": "model.vision_tower"}


def load(folder: Path) -> tuple[Any, Any]:
    found = architecture_of(str(folder))
    return found.config, found.model_class.from_pretrained(folder, dtype=torch.bfloat16)


@pytest.mark.parametrize("name", PART_OF)
def test_it_is_what_a_real_run_allocates(tiny_of: TinyOf, name: str) -> None:
    config, model = load(tiny_of(name))
    predictor = Predictor(config)
    cells = build_family_matrix(
        preset=["full", PART_OF[name], "none"], checkpointing=[False, True], text_tokens=[200], batch=[2]
    )
    peak_of_real_run(model, cells[0])  # the libraries' first-time work
    for cell in cells:
        allocated = predicted = 0
        for event in predictor.trace(cell).events:
            allocated += event.num_bytes
            predicted = max(predicted, allocated)
        assert predicted == pytest.approx(peak_of_real_run(model, cell), rel=2e-3, abs=CPU_SCRATCH_BYTES), cell.title


def test_what_trains_has_gradients_and_optimizer_states(tiny_of: TinyOf) -> None:
    config, model = load(tiny_of("LlamaForCausalLM"))
    predictor = Predictor(config)
    head = predictor.predict(Cell(preset="lm_head", world_tokens=0, text_tokens=16))
    none = predictor.predict(Cell(preset="none", world_tokens=0, text_tokens=16))
    assert head.split_bytes["optimizer_state"] == 2 * model.lm_head.weight.nbytes
    assert "backward" not in none.phase_peaks_bytes
    with pytest.raises(InputError, match=r"has no such preset; did you mean model\.layers"):
        predictor.predict(Cell(preset="model.layer", world_tokens=0, text_tokens=16))
    with pytest.raises(InputError, match="positions for 512"):
        predictor.predict(Cell(preset="full", world_tokens=0, text_tokens=513))


def test_code_that_reads_values_is_said(tiny_of: TinyOf) -> None:
    config, _ = load(tiny_of("Qwen2_5_VLForConditionalGeneration"))
    cells = build_family_matrix(preset=["full"], text_tokens=[16])
    (prediction,) = answer_all(config, cells, Question())
    assert prediction.error is not None
    assert "memory measure has them" in prediction.error


def test_rows_of_each_kind(tiny_of: TinyOf) -> None:
    cell = Cell(preset="full", world_tokens=0, text_tokens=20, batch=3)
    shapes = {
        name: {
            key: tuple(tensor.shape) for key, tensor in make_inputs(cell, load(tiny_of(name))[0], device="cpu").items()
        }
        for name in ("T5ForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "CLIPModel")
    }
    assert shapes["T5ForConditionalGeneration"]["decoder_input_ids"] == (3, 20)
    assert shapes["T5ForConditionalGeneration"]["labels"] == (3, 20)
    grid = shapes["Qwen2_5_VLForConditionalGeneration"]
    assert grid["image_grid_thw"] == (3, 3)
    assert grid["input_ids"] == (3, 20 + 16 + 2)
    assert shapes["CLIPModel"]["pixel_values"] == (3, 3, 32, 32)
    with pytest.raises(InputError, match="ViTForImageClassification takes none"):
        make_inputs(cell, load(tiny_of("ViTForImageClassification"))[0], device="cpu")


def test_a_family_is_measured(tiny_of: TinyOf, cuda: None) -> None:  # noqa: F811
    _, model = load(tiny_of("LlamaForCausalLM"))
    cells = build_family_matrix(preset=["full", "none"], text_tokens=[16])
    steps = list(measure_cells(model, cells))
    assert [(step.cell, step.error, step.peak_allocated_bytes) for step in steps] == [(c, None, 5000) for c in cells]
    assert "backward" in steps[0].phase_peaks_bytes


def test_the_command_and_what_is_the_worlds_own(tiny_of: TinyOf, tmp_path: Path) -> None:
    model = ("memory", "predict", "--model", tiny_of("LlamaForCausalLM"))
    budget = tmp_path / "budget.toml"
    budget.write_text('[[budget]]\npreset = "lm_head"\nmax_allocated_gb = 0.001\n')
    asked = ("--preset", "lm_head", "--checkpointing", "off", "--text-tokens", 16, "--budget", budget, "--json")
    result = invoke(*model, *asked)
    assert result.exit_code == 1, result.stderr
    report = json.loads(result.stdout)
    assert report["subjects"][0]["target"] == "transformers:LlamaForCausalLM"
    assert [finding["code"] for finding in report["checks"][0]["findings"]] == ["memory.budget"]
    for option in (("--world-tokens", 16), ("--chunked-loss", "on"), ("--gpus", 2), ("--sweep", "world")):
        result = invoke(*model, *option)
        assert_input_error(result, "is TheWorld's own", "transformers:LlamaForCausalLM")
    assert_input_error(invoke("memory", "measure", *model[2:], "--world-tokens", 16), "is TheWorld's own")
