"""Tiny checkpoints of any class of transformers: its config with small sizes, and weights drawn from a seed.

In: a class's name. Out: a folder that `from_pretrained` loads, a few MB at most. Sizes are set by the names of a
config's fields, which most families share; a class whose config cannot be made small so says which error it raised.
"""

import re
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import summary
from theworld_validate.results import InputError

WIDTH, HEADS, VOCABULARY = 64, 4, 320
_FIRST_SPECIAL_ID = 256
_MOST_PARAMETERS = 20_000_000
# By a field's name, the first that matches: what a whole number larger than this becomes.
_SIZES: tuple[tuple[str, int], ...] = tuple(
    (pattern, size)
    for pattern, size in (
        (r"vocab_size|vocab_size_.*|.*_vocab_size", VOCABULARY),
        (r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length)", 512),
        (r"max_target_positions", 256),
        (r"max_source_positions", 64),
        (r"(max_pos_emb|max_length)", 256),
        (r"(num_key_value_heads|num_kv_heads|.*_kv_heads|multi_query_group_num)", 2),
        (r"(num_experts_per_tok|.*top_?k(_experts)?|moe_k)", 2),
        (r"(n_group|topk_group|num_expert_groups?)", 1),
        (r"(first_k_dense_replace|moe_layer_start_index)", 1),
        (r"(num_experts|n_routed_experts|num_local_experts|moe_num_experts)", 4),
        (r"(.*_lora_rank|time_step_rank|.*_rank)", 16),
        (r"(qk_rope_head_dim|qk_nope_head_dim)", 16),
        (r"(v_head_dim|head_dim|d_kv|kv_channels|attention_head_dim|.*_head_dim|head_size|d_head)", 16),
        (r"(.*attention_heads|n_heads?|num_heads|.*_num_heads|encoder_attention_heads|decoder_attention_heads)", HEADS),
        (r"(.*layers|n_layers?|depth|.*_depth|num_blocks|num_layers.*)", 2),
        (r"(.*intermediate_size.*|.*ffn_dim.*|ffn_hidden_size|d_ff|n_inner|d_inner|.*mlp_dim|inner_dim)", 2 * WIDTH),
        (r"(image_size|img_size|input_size)", 32),
        (r"(patch_size)", 8),
        (r"(rotary_dim)", 16),
        (r"(full_attention_interval|attn_layer_period|expert_layer_period)", 2),
        (r"(attn_layer_offset|expert_layer_offset)", 1),
        (r"(mm_tokens_per_image)", 4),
        (r"(sliding_window|attention_window|local_attention|attention_chunk_size)", 32),
        (r"(num_conv_pos_embeddings)", 16),
        (
            r"(hidden_size.*|d_model|n_embd|dim|.*embed_dim|embedding_size|embedding_dim|hidden_dim|out_hidden_size|"
            r"projection_dim|.*hidden_dim|.*projection_size|d_embed|word_embed_proj_dim|lru_width|.*_hidden_size)",
            WIDTH,
        ),
    )
)
_DERIVED = ("layer_types", "mlp_layer_types", "layers_block_type", "block_types", "no_rope_layers", "max_window_layers")


def write_tiny(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny checkpoint of a class of transformers, in float32.

    Args:
        name: such as "LlamaForCausalLM".
        folder: a new one.

    Raises:
        InputError: if there is no such class, or no small config of it describes a model.
    """
    import torch
    import transformers

    from theworld.checkpoints.key_renaming import build_on_meta

    model_class: Any = getattr(transformers, name, None)
    config_class = getattr(model_class, "config_class", None)
    if config_class is None:
        raise InputError(f"transformers:{name}: no such model class in transformers {transformers.__version__}")
    try:
        config = small_config(config_class)
        num_parameters = sum(parameter.numel() for parameter in build_on_meta(model_class, config).parameters())
        if num_parameters > _MOST_PARAMETERS:
            raise ValueError(f"{num_parameters:,} parameters are not tiny")
        torch.manual_seed(seed)
        model = model_class(config)
        randomise(model)
        model.to(torch.float32).save_pretrained(folder)
    except Exception as error:  # whatever a class says of sizes that do not suit it
        raise InputError(f"transformers:{name}: no tiny model: {type(error).__name__}: {summary(error)}") from error
    return folder


def randomise(model: Any) -> None:
    """Draw what was initialised to one value: equal tensors would hide that one of them was lost."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if (
                parameter.is_floating_point()
                and parameter.numel() > 1
                and bool((parameter == parameter.flatten()[0]).all())
            ):
                parameter.add_(0.02 * torch.randn_like(parameter))


def small_config(config_class: Any) -> Any:
    """A config of this class with small sizes, its sub-configs included."""
    small = _small(config_class().to_dict())
    if "vision_config" in small:  # rotary angles of text among images; a class's own default is of a larger head
        text = small.get("text_config", small)
        text["rope_parameters"] = {**(text.get("rope_parameters") or {}), "mrope_section": [2, 3, 3]}
    if small.get("is_encoder_decoder") and small.get("decoder_start_token_id") is None:
        small["decoder_start_token_id"] = small.get("pad_token_id") or 0
    return config_class.from_dict(small)


def _small(values: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    next_id = _FIRST_SPECIAL_ID
    for key, value in values.items():
        name = str(key)
        if isinstance(value, dict):
            small[name] = _small(value)
        elif name == "mrope_section":  # its parts are half a head
            small[name] = [2, 3, 3]
        elif name == "num_key_value_heads" and "kv_lora_rank" in values:  # heads share what is compressed
            small[name] = HEADS
        elif name in _DERIVED:
            continue
        elif re.search(r"token_(id|index)$", name) and isinstance(value, int) and value >= _FIRST_SPECIAL_ID:
            small[name] = next_id = next_id + 1
        else:
            small[name] = _small_value(name, value)
    kinds = list(dict.fromkeys(values.get("layer_types") or ()))
    if len(kinds) > 1:  # a layer of each kind
        small |= {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    return small


def _small_value(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, list, tuple)):
        return value
    size = next((size for pattern, size in _SIZES if re.fullmatch(pattern, name)), None)
    if size is None:
        return value
    if isinstance(value, int):
        return min(value, size)
    return [min(item, size) if isinstance(item, int) else item for item in value]
