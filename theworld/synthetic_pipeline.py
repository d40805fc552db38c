"""The rest of a synthetic Cosmos repository: what predicts, beside the VAE that encodes.

In: a size, a seed, and a folder that holds a VAE. Out: `transformer`, `text_encoder`, `tokenizer`, `scheduler` and
`model_index.json`, as nvidia/Cosmos-Predict2-2B-Video2World or Cosmos-Predict2.5-2B has them; the safety checker is the
user's own.
"""

import json
from pathlib import Path
from typing import Any

from theworld.checkpoints.tensor_files import write_tensors
from theworld.geometries import geometry
from theworld.pipeline_geometries import (
    PREDICT_2,
    PREDICT_2_5,
    PipelineGeometry,
    build_on_meta,
    build_scheduler,
    pipeline_geometry,
)
from theworld.synthetic_tensors import Progress, draw_tensor, write_shards

_STEMS = {"transformer": "diffusion_pytorch_model", "text_encoder": "model"}
_TRANSFORMER = {"transformer": ["diffusers", "CosmosTransformer3DModel"]}
_INDEX: dict[str, dict[str, Any]] = {
    PREDICT_2: {
        "_class_name": "Cosmos2VideoToWorldPipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        **_TRANSFORMER,
    },
    PREDICT_2_5: {
        "_class_name": "Cosmos2_5_PredictBasePipeline",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
        **_TRANSFORMER,
    },
}
_PAIRS = "th he in er an re on es ed or at en ti ou ar st nd is te it al as le ng to se ic ra ro li ▁a ▁t ▁s ▁i ▁o ▁w"


def write_pipeline(
    size: str,
    folder: Path,
    *,
    generation: str = PREDICT_2,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Write all components but the VAE into a Cosmos folder, in bfloat16.

    Args:
        size: "tiny" (0.3 MB) or "4b" (13.6 GB; of Predict 2.5, 20.7 GB).
        folder: holds `model_index.json` and `vae`.
        generation: "predict2" or "predict2.5".

    Raises:
        ValueError: for an unknown size or generation.
        OSError: if it cannot be written.
    """
    channels = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["z_dim"]
    shape = pipeline_geometry(size, channels=channels, generation=generation)
    for name, model in build_on_meta(shape).items():
        (folder / name).mkdir()
        _write_config(model, folder / name)
        tensors = _tensors_on_disk(model)
        num_bytes, stem = 2 * sum(tensor.numel() for tensor in tensors.values()), _STEMS[name]
        limit = geometry(size).max_shard_bytes
        if num_bytes > limit:
            write_shards(
                tensors, folder / name, limit, seed=seed, device=device, progress=progress, stem=stem, prefix=f"{name}."
            )
            continue
        drawn = {
            key: draw_tensor(f"{name}.{key}", tensor.shape, seed=seed, device=device) for key, tensor in tensors.items()
        }
        write_tensors(drawn, folder / name / f"{stem}.safetensors")
    build_scheduler(shape).save_pretrained(folder / "scheduler")
    build = _build_tokenizer if generation == PREDICT_2 else _build_chat_tokenizer
    build(shape).save_pretrained(folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index |= _INDEX[generation]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tensors_on_disk(model: Any) -> dict[str, Any]:
    """Names and shapes as the library writes them: what is tied once, and transformers' models by the hub's names."""
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    if not isinstance(model, PreTrainedModel):
        return model.state_dict()
    tied = set(model.all_tied_weights_keys)
    return revert_weight_conversion(model, {k: v for k, v in model.state_dict().items() if k not in tied})


def _write_config(model: Any, folder: Path) -> None:
    if hasattr(model, "save_config"):
        model.save_config(folder)
        return
    model.config.update({"architectures": [type(model).__name__], "dtype": "bfloat16"})
    model.config.save_pretrained(folder)


def _build_tokenizer(shape: PipelineGeometry) -> Any:
    """A T5 tokenizer that spells text in characters and frequent pairs: the pipeline's negative prompt fits in 512."""
    from transformers import T5Tokenizer

    first = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    singles = [(chr(code), -3.0) for code in range(ord("!"), ord("~") + 1)]
    pieces = [*first, *singles, *((pair, -4.0) for pair in _PAIRS.split())]
    if len(pieces) > shape.text_encoder_config["vocab_size"]:
        raise AssertionError(f"the tokenizer has {len(pieces)} tokens, more than its text encoder")
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


# What Qwen2.5-VL's published template does with text, in our own words.
_CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role ~ '\n' }}
{%- for part in message.content -%}{{ part.text }}{%- endfor -%}
<|im_end|>{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\n' }}{%- endif -%}"""


def _build_chat_tokenizer(shape: PipelineGeometry) -> Any:
    """A Qwen2 tokenizer that spells text in bytes, with the marks of turns."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*bytes_to_unicode().values(), *marks])}
    if len(vocabulary) > shape.text_encoder_config["text_config"]["vocab_size"]:
        raise AssertionError(f"the tokenizer has {len(vocabulary)} tokens, more than its text encoder")
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=marks[0],
        extra_special_tokens=["<|im_start|>"],
        chat_template=_CHAT_TEMPLATE,
        model_max_length=131_072,
    )
