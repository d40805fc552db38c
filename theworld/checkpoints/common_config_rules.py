"""Rules for what every transformers config may hold, of whatever family.

In: a config dictionary as JSON gives it, and the file it stands in. Out: nothing, or a `ValueError` of one line. A
config must not replace methods, name kernels to fetch, or ask for packages that are not there.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from theworld.checkpoints.error_text import file_error, shown_name, summary
from theworld.checkpoints.field_rules import Rule, Table, check_table, field_error, flag, one_of, text, whole

FLOAT_DTYPES = ("bfloat16", "float16", "float32", "float64")
_DTYPE = Rule(
    holds=lambda value: isinstance(value, str) and value.removeprefix("torch.") in FLOAT_DTYPES,
    expected=f"one of {', '.join(FLOAT_DTYPES)}",
).or_null()
# Names that are methods or settings of the class, and may all the same stand in a config.json.
_ALLOWED_CLASS_NAMES = frozenset(
    {
        "model_type", "torch_dtype", "name_or_path", "_name_or_path", "output_attentions", "num_labels",
        "rope_scaling", "per_layer_config", "_attn_implementation", "_experts_implementation",
    }
)  # fmt: skip
_EXPERTS = Rule(
    holds=lambda value: isinstance(value, str) and value in ("eager", "batched_mm", "grouped_mm"),
    expected="one of eager, batched_mm, grouped_mm",
).or_null()
_PLAIN_ATTENTION = ("eager", "sdpa", "flex_attention")
COMMON_FIELDS: Table = {
    "model_type": text(),
    "dtype": _DTYPE,
    "torch_dtype": _DTYPE,
    "output_attentions": Rule(
        holds=lambda value: value is None or value is False,
        expected="false; ask for attentions in the call, with attn_implementation='eager'",
    ),
    "output_hidden_states": flag().or_null(),
    "return_dict": Rule(holds=lambda value: value is None or value is True, expected="true"),
    "use_cache": flag(),
    "tie_word_embeddings": flag().or_null(),
    "chunk_size_feed_forward": whole(0, 1 << 20),
    "initializer_range": Rule(
        holds=lambda value: isinstance(value, (int, float)) and type(value) is not bool and 0 <= value <= 1000,
        expected="a number from 0 to 1000",
    ).or_null(),
    "architectures": Rule(
        holds=lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        expected="a list of class names",
    ).or_null(),
    "id2label": Rule(
        holds=lambda value: isinstance(value, dict) and all(str(key).isdecimal() for key in value),
        expected="an object whose keys are numbers",
    ).or_null(),
    "label2id": Rule(holds=lambda value: isinstance(value, dict), expected="an object").or_null(),
    "problem_type": text().or_null(),
    "transformers_version": text().or_null(),
    "_name_or_path": text().or_null(),
    "experts_implementation": _EXPERTS,
    "_experts_implementation": _EXPERTS,
    "fusion_config": Rule(holds=lambda value: isinstance(value, dict), expected="an object").or_null(),
}


def activations() -> tuple[str, ...]:
    """The activation functions that transformers knows."""
    from transformers.activations import ACT2FN

    return tuple(ACT2FN)


ACTIVATION = one_of(activations)


def check_common_fields(values: Mapping[str, Any], *, where: str, prefix: str = "") -> None:
    """Check one config, or one sub-config (with its `prefix`, such as "text_config.").

    Raises:
        ValueError: for the first field that breaks a rule.
    """
    from transformers import PreTrainedConfig

    settings: Any = PreTrainedConfig
    fields = {field.name for field in dataclasses.fields(settings)}  # without class variables
    for name in values:
        is_of_class = hasattr(PreTrainedConfig, name) and name not in fields and name not in _ALLOWED_CLASS_NAMES
        if name.startswith("__") or is_of_class:
            raise file_error(
                where, f"field {prefix}{shown_name(name)} would replace a part of the config's class", "remove it"
            )
    check_table(values, COMMON_FIELDS, where=where, prefix=prefix)
    for name in ("attn_implementation", "_attn_implementation"):
        _check_attention(values.get(name), where=where, field=prefix + name)
    if values.get("quantization_config") is not None:
        _check_quantization(values["quantization_config"], where=where, field=f"{prefix}quantization_config")


def _check_attention(value: Any, *, where: str, field: str) -> None:
    if value is None or (isinstance(value, str) and value in _PLAIN_ATTENTION):
        return
    if isinstance(value, dict):
        for name, chosen in value.items():
            _check_attention(chosen, where=where, field=f"{field}.{shown_name(name)}")
        return
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    available = {"flash_attention_2": is_flash_attn_2_available, "flash_attention_3": is_flash_attn_3_available}
    if not isinstance(value, str) or value not in available or not available[value]():
        what = f"one of {', '.join(_PLAIN_ATTENTION)} (no other kernel is installed here, and none is fetched)"
        raise field_error(where, field, value, what)


def _check_quantization(value: Any, *, where: str, field: str) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("quant_method"), str):
        raise field_error(where, field, value, "an object with quant_method, or absent")
    from transformers.quantizers.auto import AutoQuantizationConfig

    try:
        AutoQuantizationConfig.from_dict(dict(value))
    except Exception as error:  # each method checks its own fields in its own way
        raise file_error(where, f"{field}: {summary(error)}", "correct or remove it") from error


def check_quantization_packages(values: Mapping[str, Any], *, where: str) -> None:
    """Check that the packages which a quantised checkpoint needs are installed.

    Raises:
        ValueError: with what its quantizer asks for.
    """
    value = values.get("quantization_config")
    if value is None:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        AutoHfQuantizer.from_config(dict(value), pre_quantized=True).validate_environment(device_map=None)
    except Exception as error:  # ImportError, and what each quantizer says of devices and versions
        raise file_error(
            where,
            f"quantization_config.quant_method {shown_name(value.get('quant_method'))}: {summary(error)}",
            "install what it needs, or give a checkpoint that is not quantised",
        ) from error
