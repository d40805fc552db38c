"""Candidates with one fault each, for `--candidate tests.theworld_validate.faulty_candidates:name`."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3ForConditionalGeneration

from theworld import TheWorld


def _load(checkpoint: str, **arguments: Any) -> TheWorld:
    return TheWorld.from_pretrained(checkpoint, enable_world=False, **arguments)


def inv_freq_in_bfloat16(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    model.model.language_model.rotary_emb.to(torch.bfloat16)
    return model


def last_bit_flipped(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    weight = model.model.language_model.layers[3].mlp.down_proj.weight
    integers = {2: torch.int16, 4: torch.int32}[weight.element_size()]
    weight.detach().view(integers)[7, 11] ^= 1
    return model


def changed_by_a_later_load(checkpoint: str, **arguments: Any) -> TheWorld:
    """Only the first load, of this checkpoint and in any process, is as it should be."""
    model = _load(checkpoint, **arguments)
    try:
        Path(checkpoint).with_name("loaded").touch(exist_ok=False)
    except FileExistsError:
        model.model.language_model.layers[2].mlp.down_proj.weight.detach()[3] += 0.5
    return model


def named_after_its_process(checkpoint: str, **arguments: Any) -> TheWorld:
    """Each worker's load carries another value, which no module of the reference has."""
    model = _load(checkpoint, **arguments)
    model.made_by = os.getpid()  # type: ignore[assignment]
    return model


def train_mode(checkpoint: str, **arguments: Any) -> TheWorld:
    return _load(checkpoint, **arguments).train()


def draws_while_loading(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    torch.rand(1)
    return model


def extra_parameter(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    model.world_projection = torch.nn.Linear(2, 2)
    return model


def leftover_hook(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    model.model.language_model.layers[2].register_forward_hook(lambda *_: None)
    return model


def untied_head(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def longer_window(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)
    model.config.text_config.sliding_window += 1
    return model


def other_seed_for_each_call(checkpoint: str, **arguments: Any) -> Any:
    """A reference that is never twice the same: its control must say so."""
    from transformers import Gemma3ForConditionalGeneration

    model = Gemma3ForConditionalGeneration.from_pretrained(checkpoint, **arguments)
    calls = iter(range(1_000_000))

    def shift(_module: Any, inputs: Any) -> Any:
        return (inputs[0] + 1e-3 * next(calls),)

    model.model.language_model.norm.register_forward_pre_hook(shift)
    return model


class PlainSubclass(Gemma3ForConditionalGeneration):
    """What somebody writes who only adds a method."""

    def shout(self) -> str:
        return type(self).__name__.upper()


def eager_attention(checkpoint: str, **arguments: Any) -> TheWorld:
    return _load(checkpoint, **{**arguments, "attn_implementation": "eager"})


def peft_with_adapter_disabled(checkpoint: str, **arguments: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(_load(checkpoint, **arguments), LoraConfig(target_modules=["q_proj"], r=2))
    wrapped.base_model.disable_adapter_layers()
    return wrapped.get_base_model().eval()


def not_a_model(checkpoint: str, **arguments: Any) -> Any:
    raise RuntimeError("kaboom\nsecond line")


def random_gradients(checkpoint: str, **arguments: Any) -> Gemma3ForConditionalGeneration:
    """Equal forwards, and a gradient that no two backward passes share."""
    model = Gemma3ForConditionalGeneration.from_pretrained(checkpoint, **arguments)
    generator = torch.Generator().manual_seed(1)
    norm = model.model.language_model.norm.weight
    norm.register_hook(lambda grad: grad * torch.rand(grad.shape, generator=generator).to(grad.dtype))
    return model


def raises(checkpoint: str, **arguments: Any) -> TheWorld:
    model = _load(checkpoint, **arguments)

    def fail(*_: Any) -> None:
        raise IndexError("no such layer")

    model.model.language_model.layers[1].register_forward_pre_hook(fail)
    return model
