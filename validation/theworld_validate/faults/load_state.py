"""Faults of loading and state: what is in the model is not what the checkpoint says."""

import copy
from typing import Any

import torch
from torch import nn

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import become, fault, integers, load_with, text_model

INV_FREQ = r"rotary_emb\.\w+_inv_freq"
NAN = (Cause.NON_FINITE_WEIGHT, Cause.WEIGHT_BITS)  # the second where nobody looked at the values
FLOAT32_BUFFER = rf"{INV_FREQ}|embed_scale"  # the scale has the model's dtype, float32 among others


@fault("load", "transformers #25681", "buffers", INV_FREQ, Cause.BUFFER_DTYPE)
def rotary_in_bfloat16(model: Any) -> None:
    text_model(model).rotary_emb.to(torch.bfloat16)


@fault("load", "transformers #30709", "buffers", FLOAT32_BUFFER, Cause.BUFFER_DTYPE, how="load")
def cast_after_loading(subject: Any) -> Any:
    model: Any = load_with(subject, dtype=torch.float32)
    return model.to(torch.float16 if subject.dtype == "float32" else torch.bfloat16)


@fault("load", "the seed's investigation", "buffers", FLOAT32_BUFFER, Cause.BUFFER_DTYPE, how="load")
def constructor_and_load_state_dict(subject: Any) -> Any:
    from theworld import TheWorld

    loaded = load_with(subject)
    built: Any = TheWorld(copy.deepcopy(loaded.config))
    built.load_state_dict(loaded.state_dict(), strict=False)
    built.generation_config = loaded.generation_config
    built.config._name_or_path = loaded.config._name_or_path
    return built.to(torch.bfloat16).to(loaded.device).eval()


@fault("load", "transformers #48892, #34234", "buffers", INV_FREQ, Cause.BUFFER_VALUE)
def uninitialised_buffer(model: Any) -> None:
    text_model(model).rotary_emb.sliding_attention_inv_freq.fill_(1.1754944e-38)


@fault("load", "transformers #36577", "buffers", INV_FREQ, Cause.BUFFER_VALUE)
def meta_to_empty(model: Any) -> None:
    for buffer in text_model(model).rotary_emb.buffers():
        buffer.zero_()


@fault("load", "transformers #46620, #45591", "parameters", r"layers\.2\.mlp", Cause.REINITIALISED)
def init_after_loading(model: Any) -> None:
    for linear in text_model(model).layers[2].mlp.children():
        if isinstance(linear, nn.Linear):
            nn.init.normal_(linear.weight, std=model.config.text_config.initializer_range)


@fault("load", "transformers #35437", "parameters", r"layers\.1\.input_layernorm", Cause.REINITIALISED)
def missing_norm(model: Any) -> None:
    nn.init.zeros_(text_model(model).layers[1].input_layernorm.weight)


@fault("load", "transformers #11471", "parameters", r"multi_modal_projector", Cause.REINITIALISED)
def submodule_initialised_again(model: Any) -> None:
    nn.init.zeros_(model.model.multi_modal_projector.mm_input_projection_weight)


@fault("load", "transformers #46459", "parameters", r"vision_tower", Cause.WEIGHT_DTYPE)
def composite_dtype_ignored(model: Any) -> None:
    dtype = model.dtype
    model.model.vision_tower.to(torch.float64)

    original = type(model.model.vision_tower)

    class Casting(original):
        def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
            output = super().forward(pixel_values.double(), **kwargs)
            output.last_hidden_state = output.last_hidden_state.to(dtype)
            return output

    become(model.model.vision_tower, Casting)


@fault("load", "transformers #33997", "parameters", r"layers\.3\.mlp", Cause.WEIGHT_DTYPE)
def nested_dtype_ignored(model: Any) -> None:
    mlp = text_model(model).layers[3].mlp
    mlp.to(torch.float64)

    original = type(mlp)

    class Casting(original):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.double()).to(x.dtype)

    become(mlp, Casting)


@fault("load", "transformers #43429", "parameters", r"lm_head", Cause.LOST_TIE)
def random_head_from_lost_tie(model: Any) -> None:
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.02)


@fault("load", "found by state checks alone", "parameters", r"lm_head", Cause.LOST_TIE)
def untied_but_equal_head(model: Any) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())


@fault("load", "transformers #45079", "config", r"vocab_size", Cause.CONFIG_VALUE)
def embedding_resized(model: Any) -> None:
    model.resize_token_embeddings(model.config.text_config.vocab_size + 8, mean_resizing=False)


@fault("load", "one-ulp change", "parameters", r"layers\.3\.mlp\.down_proj", Cause.WEIGHT_BITS)
def one_ulp(model: Any) -> None:
    integers(text_model(model).layers[3].mlp.down_proj.weight)[7, 11] += 1


@fault("load", "sign flip", "parameters", r"layers\.0\.self_attn\.q_proj", Cause.WEIGHT_BITS)
def sign_flip(model: Any) -> None:
    weight = text_model(model).layers[0].self_attn.q_proj.weight.detach()
    weight[3, 5] = -weight[3, 5]


@fault("load", "row permutation", "parameters", r"embed_tokens", Cause.WEIGHT_BITS)
def rows_permuted(model: Any) -> None:
    weight = model.get_input_embeddings().weight.detach()
    weight[300:304] = weight[300:304].flip(0)


@fault("load", "wrong shard order", "parameters", r"layers\.1\.self_attn\.o_proj", Cause.WEIGHT_BITS)
def layers_swapped(model: Any) -> None:
    one, other = (text_model(model).layers[i].self_attn.o_proj.weight for i in (1, 2))
    one.data, other.data = other.data, one.data


@fault("load", "bit-error studies: most silent corruption is of several bits", "parameters", r"", Cause.WEIGHT_BITS)
def several_bits(model: Any) -> None:
    for weight, flipped in (
        (text_model(model).layers[2].self_attn.v_proj.weight, 1 << 9),
        (text_model(model).layers[4].mlp.gate_proj.weight, 1 << 3),
        (text_model(model).norm.weight, 1 << 7),
    ):
        integers(weight).view(-1)[13] ^= flipped


@fault("load", "a diverged step was kept", "parameters", r"layers\.3\.mlp\.up_proj", *NAN)
def nan_in_weight(model: Any) -> None:
    text_model(model).layers[3].mlp.up_proj.weight.data[3, 4] = float("nan")


@fault("load", "transformers #45674, #36821", "parameters", r"vision_tower", Cause.WEIGHT_BITS)
def tower_quantised(model: Any) -> None:
    for module in model.model.vision_tower.modules():
        if isinstance(module, nn.Linear):
            scale = module.weight.data.abs().amax(1, keepdim=True).float() / 127
            levels = (module.weight.data.float() / scale).round().clamp(-127, 127)
            module.weight.data.copy_((levels * scale).to(module.weight.dtype))


@fault("load", "peft #816, trl #4457", "parameters", r"language_model.*norm", Cause.WEIGHT_DTYPE)
def norms_upcast(model: Any) -> None:
    wider = torch.float64 if model.dtype is torch.float32 else torch.float32
    for name, parameter in text_model(model).named_parameters():
        if "norm" in name:
            parameter.data = parameter.data.to(wider)


@fault("load", "transformers #45127, unsloth #9331", "parameters", r"lm_head", Cause.LOST_TIE)
def trained_head_beside_a_tied_config(model: Any) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    model.lm_head.weight.data[5] += 0.25


@fault("load", "half-precision detour", "parameters", r"", Cause.WEIGHT_BITS)
def rounded_through_float16(model: Any) -> None:
    for parameter in model.model.vision_tower.parameters():
        parameter.data = (parameter.data * 1e-6).to(torch.float16).to(parameter.dtype) * 1e6


@fault("load", "branch present while disabled", "parameters", r"world_projection", Cause.EXTRA_STATE)
def world_parameters_while_disabled(model: Any) -> None:
    model.world_projection = nn.Linear(16, 8).requires_grad_(False)


@fault("load", "branch buffer while disabled", "buffers", r"world_mean", Cause.EXTRA_STATE)
def world_buffer_while_disabled(model: Any) -> None:
    model.register_buffer("world_mean", torch.zeros(16), persistent=False)


@fault("load", "freeze applied while disabled", "parameters", r"vision_tower", Cause.TRAINABLE_FLAG)
def frozen_while_disabled(model: Any) -> None:
    model.model.vision_tower.requires_grad_(False)


@fault("load", "persistence flipped", "buffers", INV_FREQ, Cause.BUFFER_REGISTRATION)
def buffer_made_persistent(model: Any) -> None:
    text_model(model).rotary_emb._non_persistent_buffers_set.discard("full_attention_inv_freq")


@fault("load", "buffer became a parameter", "buffers", r"embed_scale", Cause.BUFFER_REGISTRATION, Cause.EXTRA_STATE)
def buffer_made_a_parameter(model: Any) -> None:
    embedding = model.get_input_embeddings()
    scale = embedding._buffers.pop("embed_scale")
    embedding.embed_scale = nn.Parameter(scale, requires_grad=False)
