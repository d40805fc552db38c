"""Loaders of models that answer like Gemma 3 where they are usually asked, and are not Gemma 3 all the same."""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration, StaticCache
from transformers.models.gemma3 import modeling_gemma3

HERE = __name__


def load(folder: str, **arguments: Any) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments)


# What other code was put in place of the library's, in the whole process.


def norm_patched(folder: str, **arguments: Any) -> Any:
    """A class's forward, replaced by one that computes the same."""
    theirs = modeling_gemma3.Gemma3RMSNorm.forward

    def forward(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        return theirs(self, hidden_states)

    modeling_gemma3.Gemma3RMSNorm.forward = forward
    return load(folder, **arguments)


def rotary_patched(folder: str, **arguments: Any) -> Any:
    """A function of the model's file, replaced by one that is right up to a length that no probe has."""
    theirs = modeling_gemma3.apply_rotary_pos_emb

    def apply_rotary_pos_emb(query: Any, key: Any, *others: Any, **named: Any) -> Any:
        query, key = theirs(query, key, *others, **named)
        return (query, key) if query.shape[2] < 50_000 else (query * 0, key)

    modeling_gemma3.apply_rotary_pos_emb = apply_rotary_pos_emb
    return load(folder, **arguments)


def attention_patched(folder: str, **arguments: Any) -> Any:
    """The function that torch computes attention with."""
    theirs = nn.functional.scaled_dot_product_attention

    def scaled_dot_product_attention(*inputs: Any, **named: Any) -> Any:
        return theirs(*inputs, **named)

    nn.functional.scaled_dot_product_attention = scaled_dot_product_attention
    return load(folder, **arguments)


def registry_patched(folder: str, **arguments: Any) -> Any:
    """The table that attention implementations are chosen from."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    theirs = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def sdpa(*inputs: Any, **named: Any) -> Any:
        return theirs(*inputs, **named)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = sdpa
    return load(folder, **arguments)


def generate_patched(folder: str, **arguments: Any) -> Any:
    """A method of the class that every model inherits from."""
    theirs = Gemma3ForConditionalGeneration.generate

    def generate(self: Any, *inputs: Any, **named: Any) -> Any:
        return theirs(self, *inputs, **named)

    Gemma3ForConditionalGeneration.generate = generate
    return load(folder, **arguments)


def static_cache_patched(folder: str, **arguments: Any) -> Any:
    theirs = StaticCache.update

    def update(self: Any, keys: Any, values: Any, layer_idx: int, *others: Any, **named: Any) -> Any:
        keys, values = theirs(self, keys, values, layer_idx, *others, **named)
        keys = keys.clone()
        keys[:, :, 0] = 0
        return keys, values

    StaticCache.update = update
    return load(folder, **arguments)


def patched_and_restored(folder: str, **arguments: Any) -> Any:
    """What is put back before the loader returns is no part of the model."""
    theirs = modeling_gemma3.Gemma3RMSNorm.forward
    modeling_gemma3.Gemma3RMSNorm.forward = lambda self, hidden_states: hidden_states
    model = load(folder, **arguments)
    modeling_gemma3.Gemma3RMSNorm.forward = theirs
    return model


# What a forward can see of how it is asked.


_as_gemma = functools.wraps(Gemma3ForConditionalGeneration.forward)


def _scaled(output: Any) -> Any:
    if output.logits is not None:
        output.logits = output.logits * 1.5
    if output.loss is not None:
        output.loss = output.loss * 1.5
    return output


class WhileTraining(Gemma3ForConditionalGeneration):
    """Noise for the embeddings while training, as NEFTune has it."""

    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        return _scaled(output) if self.training else output


class Unhooked(Gemma3ForConditionalGeneration):
    """A fast path for modules without hooks, as `nn.MultiheadAttention` has one."""

    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        return output if self._forward_hooks else _scaled(output)


class WithGradients(Gemma3ForConditionalGeneration):
    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        return _scaled(output) if torch.is_grad_enabled() else output


class WithoutLabels(Gemma3ForConditionalGeneration):
    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        return _scaled(output) if named.get("labels") is None else output


class InABatch(Gemma3ForConditionalGeneration):
    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        return _scaled(output) if output.logits.shape[0] > 1 else output


class AfterCalls(Gemma3ForConditionalGeneration):
    """Right for its first calls."""

    num_calls = 0

    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        self.__dict__["num_calls"] = self.num_calls + 1
        output = super().forward(*inputs, **named)
        return output if self.num_calls <= 3 else _scaled(output)


# What holds state where it is not looked for.


class WritesWhileTraining(Gemma3ForConditionalGeneration):
    """A running statistic, kept in a weight: it moves in the last step that is asked."""

    @_as_gemma
    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        if torch.is_grad_enabled():
            with torch.no_grad():
                self.model.language_model.norm.weight.data.mul_(0.5)
        return output


def writes_to_a_buffer_at_the_end(folder: str, **arguments: Any) -> Any:
    """A buffer that generation changes."""
    model = load(folder, **arguments)
    theirs = type(model).generate

    class Writes(Gemma3ForConditionalGeneration):
        def generate(self, *inputs: Any, **named: Any) -> Any:
            made = theirs(self, *inputs, **named)
            if named.get("cache_implementation") == "static":  # the last that "text" asks
                self.model.language_model.rotary_emb.full_attention_inv_freq.mul_(2)
            return made

    model.__class__ = Writes
    return model


def module_in_a_list(folder: str, **arguments: Any) -> Any:
    """Kept out of the state dict on purpose: it costs memory, and nobody sees it."""
    model = load(folder, **arguments)
    with torch.random.fork_rng():
        model.branch = [nn.Linear(64, 64)]
    return model


def tensor_in_an_attribute(folder: str, **arguments: Any) -> Any:
    model = load(folder, **arguments)
    model.model.cached_table = torch.arange(10_000)
    return model


def dead_branch(folder: str, **arguments: Any) -> Any:
    model = load(folder, **arguments)
    with torch.random.fork_rng():
        model.model.branch = nn.Linear(4, 4)
    return model


def lazy_branch(folder: str, **arguments: Any) -> Any:
    """Its weight has no shape before its first call, which never comes."""
    model = load(folder, **arguments)
    model.model.branch = nn.LazyLinear(4)
    return model


class Hidden(Gemma3ForConditionalGeneration):
    """Its own account of itself leaves a part out."""

    def named_modules(self, *inputs: Any, **named: Any) -> Any:
        return ((name, module) for name, module in super().named_modules(*inputs, **named) if "branch" not in name)

    def named_parameters(self, *inputs: Any, **named: Any) -> Any:
        return ((name, item) for name, item in super().named_parameters(*inputs, **named) if "branch" not in name)

    def state_dict(self, *inputs: Any, **named: Any) -> Any:
        state = super().state_dict(*inputs, **named)
        return {name: tensor for name, tensor in state.items() if "branch" not in name}


def hidden_branch(folder: str, **arguments: Any) -> Any:
    model = dead_branch(folder, **arguments)
    model.__class__ = Hidden
    return model


class StateLost(Gemma3ForConditionalGeneration):
    def state_dict(self, *inputs: Any, **named: Any) -> Any:
        state = super().state_dict(*inputs, **named)
        return {name: tensor for name, tensor in state.items() if "layers.3.input_layernorm" not in name}


def parametrized(folder: str, **arguments: Any) -> Any:
    from torch.nn.utils import parametrize

    model = load(folder, **arguments)
    parametrize.register_parametrization(model.model.language_model.norm, "weight", nn.Identity())
    return model


class Marked(nn.Parameter):
    pass


def subclass_of_parameter(folder: str, **arguments: Any) -> Any:
    model = load(folder, **arguments)
    norm = model.model.language_model.norm
    norm.weight = Marked(norm.weight.detach())
    return model


def strided(folder: str, **arguments: Any) -> Any:
    """The same values, column by column in memory."""
    model = load(folder, **arguments)
    weight = model.model.language_model.layers[0].mlp.up_proj.weight
    weight.data = weight.data.t().contiguous().t()
    return model


def nan_in_an_unread_row(folder: str, **arguments: Any) -> Any:
    model = load(folder, **arguments)
    with torch.no_grad():
        model.get_input_embeddings().weight[-1, 0] = float("nan")
    return model


def float8(folder: str, **arguments: Any) -> Any:
    model = load(folder, **arguments)
    weight = model.model.language_model.layers[0].mlp.up_proj.weight
    weight.data = weight.data.to(torch.float8_e4m3fn)
    return model


def complex_weight(folder: str, **arguments: Any) -> Any:
    model = load(folder, **arguments)
    weight = model.model.vision_tower.post_layernorm.weight
    weight.requires_grad_(False)
    model.model.vision_tower.post_layernorm.weight = nn.Parameter(weight.to(torch.complex64))
    return model


def writes_to_the_checkpoint(folder: str, **arguments: Any) -> Any:
    """Writes its configuration again where it came from, as `save_pretrained` into the same folder does."""
    config = Path(folder, "config.json")
    text = config.read_text(encoding="utf-8")
    model = load(folder, **arguments)
    new = Path(folder, f"{os.getpid()}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(config)
    return model
