"""Where a model takes its inputs: of plain modules, of models that lie on the meta device, of offloaded ones."""

from pathlib import Path

import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.fingerprint.placement import device_of, dtype_of, vocab_size_of

CPU = torch.device("cpu")


def test_a_model_says_it_itself(gemma: Gemma3ForConditionalGeneration) -> None:
    assert (device_of(gemma), dtype_of(gemma), vocab_size_of(gemma)) == (CPU, torch.float32, 1088)


def test_a_plain_module_is_asked_for_its_parameters() -> None:
    module = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 2)).to(torch.float16)
    assert (device_of(module), dtype_of(module), vocab_size_of(module)) == (CPU, torch.float16, 0)


def test_a_module_without_parameters_is_on_the_cpu() -> None:
    assert (device_of(nn.Identity()), dtype_of(nn.Identity())) == (CPU, torch.float32)


def test_parameters_on_the_meta_device_are_passed_over() -> None:
    module = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    assert device_of(module) == CPU


def test_an_offloaded_model_runs_where_its_first_hook_does(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    places = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu"}
    places |= {"model.language_model": "disk", "lm_head": "disk"}
    model = Gemma3ForConditionalGeneration.from_pretrained(tiny.gemma, device_map=places, offload_folder=str(tmp_path))
    assert any(parameter.is_meta for parameter in model.parameters())
    assert device_of(model) == CPU


class Hook:
    def __init__(self, device: str) -> None:
        self.execution_device = device


def test_a_chain_of_hooks_is_looked_through() -> None:
    class Chain:
        hooks = (object(), Hook("meta"))

    module = nn.Linear(2, 2)
    module._hf_hook = Chain()
    assert device_of(module) == torch.device("meta")
