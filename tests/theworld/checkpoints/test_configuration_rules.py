"""Config rules: every row of impossible values is one line that names the field; every real Gemma 3 passes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import Gemma3Config

from theworld import TheWorldConfig
from theworld.checkpoints.configuration_rules import check_gemma3_config
from theworld.folder_rules import check_gemma3_folder
from theworld.geometries import geometry
from theworld.synthetic import SyntheticCheckpoint

TEXT: list[tuple[str, Any]] = [
    ("hidden_size", 1_000_000_000),
    ("hidden_size", 0),
    ("hidden_size", "128"),
    ("hidden_size", 128.0),
    ("hidden_size", True),
    ("hidden_size", None),
    ("num_attention_heads", 0),
    ("num_attention_heads", 3),
    ("num_key_value_heads", 3),
    ("num_key_value_heads", 0),
    ("num_key_value_heads", -2),
    ("vocab_size", 1_000_000_000),
    ("vocab_size", -5),
    ("vocab_size", 0),
    ("head_dim", 0),
    ("head_dim", 63),
    ("intermediate_size", 10_000_000_000),
    ("num_hidden_layers", 1_000_000),
    ("num_hidden_layers", 0),
    ("sliding_window", 100_000_000),
    ("sliding_window", 4097),
    ("sliding_window", -1),
    ("sliding_window", 0),
    ("sliding_window", None),
    ("max_position_embeddings", -1),
    ("rope_parameters", {"full_attention": {"rope_type": "evil"}}),
    ("rope_parameters", {"full_attention": {"rope_type": "linear", "factor": 0}}),
    ("rope_parameters", {"full_attention": {"rope_type": "linear"}}),
    ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": -1}}),
    ("rope_parameters", {"sliding_attention": 5}),
    ("rope_parameters", [1]),
    ("rope_scaling", {"rope_type": "evil"}),
    ("rope_theta", 0),
    ("partial_rotary_factor", "x"),
    ("rope_local_base_freq", "10000"),
    ("bos_token_id", 1_000_000_000),
    ("bos_token_id", -1),
    ("eos_token_id", [1, 5000]),
    ("eos_token_id", ["1"]),
    ("pad_token_id", 1088),
    ("hidden_activation", "nope"),
    ("hidden_activation", None),
    ("rms_norm_eps", 0),
    ("rms_norm_eps", -1e-6),
    ("rms_norm_eps", "x"),
    ("attention_bias", "no"),
    ("attention_dropout", 1.5),
    ("query_pre_attn_scalar", 0),
    ("final_logit_softcapping", -30),
    ("layer_types", ["full_attention"]),
    ("layer_types", ["evil"] * 8),
    ("layer_types", 5),
    ("sliding_window_pattern", 0),
    ("model_type", "llama"),
    ("dtype", "evil"),
    ("dtype", "int8"),
    ("base_model_tp_plan", 5),
    ("tie_word_embeddings", "yes"),
    ("use_cache", 1),
]
VISION: list[tuple[str, Any]] = [
    ("image_size", 1_000_000),
    ("image_size", 0),
    ("image_size", -7),
    ("patch_size", 0),
    ("patch_size", 1_000_000),
    ("patch_size", 57),
    ("num_channels", 1_000_000_000),
    ("num_hidden_layers", 10_000_000),
    ("num_attention_heads", 0),
    ("num_attention_heads", 5),
    ("hidden_size", 0),
    ("intermediate_size", -1),
    ("hidden_act", "nope"),
    ("layer_norm_eps", 0),
    ("model_type", "clip_vision_model"),
    ("vision_use_head", None),
]
TOP: list[tuple[str, Any]] = [
    ("text_config", None),
    ("text_config", 5),
    ("vision_config", None),
    ("vision_config", []),
    ("boi_token_index", -1),
    ("boi_token_index", 0),
    ("boi_token_index", 1023),
    ("boi_token_index", 1088),
    ("eoi_token_index", None),
    ("image_token_index", 1_000_000),
    ("image_token_index", "1024"),
    ("mm_tokens_per_image", 100_000_000),
    ("mm_tokens_per_image", 0),
    ("mm_tokens_per_image", -4),
    ("mm_tokens_per_image", 15),
    ("mm_tokens_per_image", 81),
    ("mm_tokens_per_image", 25),
    ("dtype", "evil"),
    ("torch_dtype", 5),
    ("base_model_tp_plan", 5),
    ("base_model_pp_plan", {}),
    ("to_dict", 5),
    ("get_text_config", "x"),
    ("sub_configs", {}),
    ("__class__", "x"),
    ("is_encoder_decoder", "x"),
    ("is_encoder_decoder", True),
    ("output_attentions", True),
    ("output_hidden_states", "x"),
    ("return_dict", False),
    ("tie_word_embeddings", 5),
    ("architectures", "Gemma3"),
    ("architectures", [5]),
    ("attn_implementation", "flash_attention_2"),
    ("_attn_implementation", "flash_attention_3"),
    ("attn_implementation", "kernels-community/flash-attn"),
    ("attn_implementation", {"text_config": "evil"}),
    ("attn_implementation", 5),
    ("quantization_config", "x"),
    ("quantization_config", [1]),
    ("quantization_config", {}),
    ("quantization_config", {"quant_method": "evil"}),
    ("quantization_config", {"quant_method": 5}),
    ("quantization_config", {"quant_method": "gptq", "bits": 77}),
    ("world_config", 5),
    ("world_config", {"frame_size": 8}),
    ("id2label", 5),
    ("initializer_range", "x"),
    ("fusion_config", 5),
    ("experts_implementation", "evil"),
]
ROWS = (
    [("text_config.", *row) for row in TEXT]
    + [("vision_config.", *row) for row in VISION]
    + [("", *row) for row in TOP]
)


@pytest.fixture(scope="module")
def tiny_values() -> dict[str, Any]:
    shape = geometry("tiny").gemma_config
    return json.loads(Gemma3Config(**shape, dtype="bfloat16", eos_token_id=[1, 106]).to_json_string())


@pytest.mark.parametrize(("prefix", "field", "value"), ROWS, ids=[f"{p}{f}={v!s:.30}" for p, f, v in ROWS])
def test_an_impossible_value_names_config_json_and_the_field(
    tiny_values: dict[str, Any], tmp_path: Path, prefix: str, field: str, value: Any
) -> None:
    values = json.loads(json.dumps(tiny_values))
    (values[prefix[:-1]] if prefix else values)[field] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/config.json: ")) as caught:
        TheWorldConfig.from_pretrained(tmp_path)
    message = str(caught.value)
    assert field in message
    assert message.isprintable()
    assert len(message) < 700


@pytest.mark.parametrize("size", ["4b", "12b", "27b"])
@pytest.mark.parametrize("style", ["hub", "saved"])
def test_every_published_geometry_passes(size: str, style: str) -> None:
    text = {
        "4b": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34},
        "12b": {
            "hidden_size": 3840, "intermediate_size": 15360, "num_hidden_layers": 48,
            "num_attention_heads": 16, "num_key_value_heads": 8,
        },
        "27b": {
            "hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62, "head_dim": 128,
            "num_attention_heads": 32, "num_key_value_heads": 16, "query_pre_attn_scalar": 168,
        },
    }[size]  # fmt: skip
    values: dict[str, Any] = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 255_999,
        "eoi_token_index": 256_000,
        "eos_token_id": [1, 106],
        "image_token_index": 262_144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": {
            **text,
            "model_type": "gemma3_text",
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": {
            "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
            "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False,
        },
    }  # fmt: skip
    if style == "saved":
        values = json.loads(Gemma3Config.from_dict(values).to_json_string(use_diff=False))
    check_gemma3_config(values, where="config.json")
    assert TheWorldConfig.adopt(values, source="x")["model_type"] == "theworld"


@pytest.mark.parametrize(
    "text",
    [
        {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4,
         "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512, "max_position_embeddings": 32_768,
         "vocab_size": 262_144, "rope_local_base_freq": 10_000, "rope_theta": 1_000_000.0, "rope_scaling": None,
         "cache_implementation": "hybrid", "sliding_window_pattern": 6, "_sliding_window_pattern": 6,
         "final_logit_softcapping": None, "attn_logit_softcapping": None, "query_pre_attn_scalar": 256,
         "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3, "use_bidirectional_attention": False},
        {"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4,
         "num_key_value_heads": 1, "sliding_window": 512, "vocab_size": 262_144, "max_position_embeddings": 32_768},
        {"sliding_window": None, "layer_types": ["full_attention"] * 26},
    ],
)  # fmt: skip
def test_text_configs_pass(text: dict[str, Any]) -> None:
    tokens = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    values = {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], **tokens, **text}
    check_gemma3_config(values, where="config.json")


def test_a_quantised_checkpoint_needs_its_packages(gemma_copy: Path) -> None:
    path = gemma_copy / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(ValueError, match=r"config.json: quantization_config.quant_method gptq: .*optimum") as caught:
        check_gemma3_folder(gemma_copy)
    assert str(caught.value).isprintable()


def test_a_right_folder_passes(tiny: SyntheticCheckpoint) -> None:
    checked = check_gemma3_folder(tiny.gemma)
    assert len(checked.weights.files) == 4
    assert not checked.is_quantised


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "[]", "tokenizer.json: holds a list, expected a JSON object"),
        ("tokenizer.json", "garbage", "tokenizer.json: not valid JSON"),
        ("tokenizer.json", "{}", "tokenizer.json: field model.vocab is missing"),
        ("tokenizer.json", '{"model": {"vocab": 5}}', "tokenizer.json: field model.vocab is missing"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: not valid JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: holds a list"),
        ("processor_config.json", "5", "processor_config.json: holds a int"),
        ("generation_config.json", "{", "generation_config.json: not valid JSON"),
        ("generation_config.json", '{"eos_token_id": "x"}', "generation_config.json: eos_token_id is 'x'"),
        ("generation_config.json", '{"temperature": "hot"}', "generation_config.json: "),
        ("generation_config.json", '{"max_new_tokens": -5}', "generation_config.json: "),
    ],
)
def test_files_beside_the_weights_are_read_strictly(gemma_copy: Path, name: str, text: str, message: str) -> None:
    (gemma_copy / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check_gemma3_folder(gemma_copy)
    assert str(caught.value).isprintable()
