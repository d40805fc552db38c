"""Ranges and relations of Gemma 3's config fields, held before any model is built.

In: a config dictionary as JSON gives it. Out: nothing, or a `ValueError` of one line with the file and the field. The
bounds are far outside every published Gemma 3; what they let through is then held against the weights' shapes.
"""

import math
from collections.abc import Mapping
from typing import Any

from theworld.checkpoints.common_config_rules import ACTIVATION, check_common_fields
from theworld.checkpoints.error_text import file_error
from theworld.checkpoints.field_rules import (
    Rule,
    Table,
    check_table,
    field_error,
    fixed,
    flag,
    is_finite,
    number,
    token_ids,
    whole,
)

_MAX_WIDTH, _MAX_LAYERS, _MAX_HEADS = 1 << 16, 1024, 1024
_LAYER_TYPES = ("sliding_attention", "full_attention")
_TOKEN_FIELDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "boi_token_index",
    "eoi_token_index",
    "image_token_index",
)
_SOFTCAP = number(0, 1e6, above=True).or_null()
_THETA = number(0, 1e12, above=True)
_TOKENS: Table = {
    "bos_token_id": token_ids(several=True).or_null(),
    "eos_token_id": token_ids(several=True).or_null(),
    "pad_token_id": token_ids().or_null(),
}
_TOP: Table = {
    **_TOKENS,
    "boi_token_index": token_ids(),
    "eoi_token_index": token_ids(),
    "image_token_index": token_ids(),
    "mm_tokens_per_image": Rule(
        holds=lambda value: type(value) is int and 1 <= value <= 1 << 16 and math.isqrt(value) ** 2 == value,
        expected="a square number from 1 to 65,536",
    ),
    "is_encoder_decoder": fixed(False, "false"),
    "text_config": Rule(holds=lambda value: isinstance(value, dict), expected="an object"),
    "vision_config": Rule(holds=lambda value: isinstance(value, dict), expected="an object"),
}
_TEXT: Table = {
    **_TOKENS,
    "model_type": fixed("gemma3_text", "'gemma3_text'"),
    "is_encoder_decoder": fixed(False, "false"),
    "vocab_size": whole(1, 1 << 22),
    "hidden_size": whole(1, _MAX_WIDTH),
    "intermediate_size": whole(1, 1 << 20),
    "num_hidden_layers": whole(1, _MAX_LAYERS),
    "num_attention_heads": whole(1, _MAX_HEADS),
    "num_key_value_heads": whole(1, _MAX_HEADS),
    "head_dim": whole(2, 4096, even=True),
    "hidden_activation": ACTIVATION,
    "max_position_embeddings": whole(1, 1 << 24),
    "rms_norm_eps": number(0, 1, above=True),
    "attention_bias": flag(),
    "attention_dropout": number(0, 0.999).or_null(),
    "query_pre_attn_scalar": number(0, 1e6, above=True),
    "sliding_window": whole(1, 1 << 24),
    "sliding_window_pattern": whole(1, _MAX_LAYERS),
    "_sliding_window_pattern": whole(1, _MAX_LAYERS),
    "partial_rotary_factor": number(0, 1, above=True).or_null(),
    "rope_theta": _THETA,
    "rope_local_base_freq": _THETA,
    "final_logit_softcapping": _SOFTCAP,
    "attn_logit_softcapping": _SOFTCAP,
    "use_bidirectional_attention": flag().or_null(),
}
_VISION: Table = {
    "model_type": fixed("siglip_vision_model", "'siglip_vision_model'"),
    "is_encoder_decoder": fixed(False, "false"),
    "hidden_size": whole(1, _MAX_WIDTH),
    "intermediate_size": whole(1, 1 << 20),
    "num_hidden_layers": whole(1, _MAX_LAYERS),
    "num_attention_heads": whole(1, _MAX_HEADS),
    "num_channels": whole(1, 16),
    "image_size": whole(1, 8192),
    "patch_size": whole(1, 8192),
    "hidden_act": ACTIVATION,
    "layer_norm_eps": number(0, 1, above=True),
    "attention_dropout": number(0, 0.999),
    "vision_use_head": flag(),
}


def check_gemma3_config(values: Mapping[str, Any], *, where: str) -> None:
    """Check a Gemma 3 or TheWorld config, or a Gemma 3 text config, as config.json holds it.

    Args:
        where: the file, for the error.

    Raises:
        ValueError: for the first field that breaks a rule.
    """
    check_common_fields(values, where=where)
    if values.get("model_type") == "gemma3_text":
        _check_text(values, where=where, prefix="")
        return
    check_table(values, _TOP, where=where)
    text_config = _with_defaults(values.get("text_config", {}), "text")
    vision_config = _with_defaults(values.get("vision_config", {}), "vision")
    for name in ("text_config", "vision_config"):
        check_common_fields(values.get(name, {}), where=where, prefix=f"{name}.")
    _check_text(text_config, where=where, prefix="text_config.")
    _check_vision(vision_config, values.get("mm_tokens_per_image", 256), where=where)
    _check_tokens(values, text_config, where=where)


def _with_defaults(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A sub-config with transformers' own defaults, of plain values, where a field is absent."""
    from transformers import Gemma3TextConfig, SiglipVisionConfig

    config_class = Gemma3TextConfig if kind == "text" else SiglipVisionConfig
    fields = getattr(config_class, "__dataclass_fields__", {})
    defaults = {name: field.default for name, field in fields.items() if type(field.default) in (int, float, bool, str)}
    return {**defaults, **values}


def _check_text(values: Mapping[str, Any], *, where: str, prefix: str) -> None:
    values = _with_defaults(values, "text")
    kinds = values.get("layer_types")
    if values["sliding_window"] is None and isinstance(kinds, list) and "sliding_attention" not in kinds:
        values["sliding_window"] = 1  # no layer reads it
    check_table(values, _TEXT, where=where, prefix=prefix)
    heads, groups, layers = (
        values[name] for name in ("num_attention_heads", "num_key_value_heads", "num_hidden_layers")
    )
    if heads % groups:
        raise field_error(where, f"{prefix}num_key_value_heads", groups, f"a divisor of num_attention_heads ({heads})")
    if values["hidden_size"] % heads:
        expected = f"a divisor of hidden_size ({values['hidden_size']})"
        raise field_error(where, f"{prefix}num_attention_heads", heads, expected)
    window, longest = values["sliding_window"], values["max_position_embeddings"]
    if window > longest:
        expected = f"at most max_position_embeddings ({longest:,})"
        raise field_error(where, f"{prefix}sliding_window", window, expected)
    if kinds is not None and not (
        isinstance(kinds, list) and len(kinds) == layers and all(kind in _LAYER_TYPES for kind in kinds)
    ):
        expected = f"a list of {' and '.join(_LAYER_TYPES)}, one for each of the {layers} layers"
        raise field_error(where, f"{prefix}layer_types", kinds, expected)
    for name in ("rope_parameters", "rope_scaling"):
        _check_rope(values.get(name), where=where, field=prefix + name)
    _check_vocabulary(values, values["vocab_size"], where=where, prefix=prefix)


def _check_rope(value: Any, *, where: str, field: str) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise field_error(where, field, value, "an object")
    nested = [name for name in _LAYER_TYPES if name in value]
    for name in nested:
        _check_rope(value[name], where=where, field=f"{field}.{name}")
    if nested:
        return
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    known = ("default", *ROPE_INIT_FUNCTIONS)
    kind = value.get("rope_type", value.get("type", "default"))
    if kind not in known:
        raise field_error(where, f"{field}.rope_type", kind, f"one of {', '.join(known)}")
    if kind in ("linear", "dynamic", "yarn", "llama3") and not is_finite(value.get("factor")):
        raise field_error(where, f"{field}.factor", value.get("factor"), f"a number, for rope_type {kind!r}")
    for name, item in value.items():
        if name in ("rope_type", "type", "truncate") or (item is None and name != "rope_theta"):
            continue
        items = item if isinstance(item, list) and name in ("short_factor", "long_factor") else [item]
        if not items or not all(is_finite(number) and 0 < number <= 1e12 for number in items):
            raise field_error(where, f"{field}.{name}", item, "a positive number")
    if "factor" in value and value["factor"] is not None and value["factor"] < 1:
        raise field_error(where, f"{field}.factor", value["factor"], "at least 1")


def _check_vision(values: Mapping[str, Any], num_tokens: int, *, where: str) -> None:
    check_table(values, _VISION, where=where, prefix="vision_config.")
    if values["hidden_size"] % values["num_attention_heads"]:
        expected = f"a divisor of hidden_size ({values['hidden_size']})"
        raise field_error(where, "vision_config.num_attention_heads", values["num_attention_heads"], expected)
    patches = values["image_size"] // values["patch_size"]
    if patches < 1:
        expected = f"at most image_size ({values['image_size']})"
        raise field_error(where, "vision_config.patch_size", values["patch_size"], expected)
    side = math.isqrt(num_tokens)
    if side > patches or patches // (patches // side) != side:
        expected = f"the square of a number that the {patches} patches a side can be pooled to"
        raise field_error(where, "mm_tokens_per_image", num_tokens, expected)


def _check_vocabulary(values: Mapping[str, Any], vocab_size: int, *, where: str, prefix: str) -> None:
    for name in _TOKEN_FIELDS:
        value = values.get(name)
        for item in value if isinstance(value, list) else [value]:
            if item is not None and item >= vocab_size:
                raise field_error(where, prefix + name, item, f"below text_config.vocab_size ({vocab_size:,})")


def _check_tokens(values: Mapping[str, Any], text_config: Mapping[str, Any], *, where: str) -> None:
    defaults = {"boi_token_index": 255_999, "eoi_token_index": 256_000, "image_token_index": 262_144}
    tokens = {**defaults, **{name: values[name] for name in _TOKEN_FIELDS if values.get(name) is not None}}
    _check_vocabulary(tokens, text_config["vocab_size"], where=where, prefix="")
    taken: dict[int, str] = {}
    for name in ("pad_token_id", "bos_token_id"):
        value = values.get(name, text_config.get(name))
        if type(value) is int:
            taken[value] = name
    for name in defaults:
        if tokens[name] in taken:
            raise field_error(where, name, tokens[name], f"another token than {taken[tokens[name]]}")
        taken[tokens[name]] = name
    world = values.get("world_config")
    if world is not None and not isinstance(world, dict):
        raise field_error(where, "world_config", world, "an object, or absent")
    for name in ("world_token_id", "start_of_world_token_id", "end_of_world_token_id"):
        value = (world or {}).get(name)
        if type(value) is int and value >= text_config["vocab_size"]:
            raise field_error(
                where, f"world_config.{name}", value, f"below text_config.vocab_size ({text_config['vocab_size']:,})"
            )


def check_builds(config_class: Any, values: Mapping[str, Any], *, where: str) -> None:
    """Check that a config class takes the values.

    Raises:
        ValueError: with what the class says against them.
    """
    import copy

    from theworld.checkpoints.error_text import summary

    try:
        config_class.from_dict(copy.deepcopy(dict(values)))
    except Exception as error:  # transformers answers a wrong type with whatever its arithmetic raises
        raise file_error(where, summary(error), "correct the field, or download config.json again") from error
