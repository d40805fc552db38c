"""The rest of a synthetic Cosmos repository: what predicts, beside the VAE that encodes.

In: a size, a seed, and a folder that holds a VAE. Out: `transformer`, `text_encoder`, `tokenizer`, `scheduler` and
`model_index.json`, as nvidia/Cosmos-Predict2-2B-Video2World has them; the safety checker is the user's own.
"""

import json
from pathlib import Path
from typing import Any

from theworld.checkpoints.tensor_files import write_tensors
from theworld.geometries import geometry
from theworld.pipeline_geometries import PipelineGeometry, build_on_meta, pipeline_geometry
from theworld.synthetic_tensors import Progress, draw_tensor, write_shards

_STEMS = {"transformer": "diffusion_pytorch_model", "text_encoder": "model"}
_INDEX = {
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "CosmosTransformer3DModel"],
}
_PAIRS = "th he in er an re on es ed or at en ti ou ar st nd is te it al as le ng to se ic ra ro li ▁a ▁t ▁s ▁i ▁o ▁w"


def write_pipeline(
    size: str, folder: Path, *, seed: int = 0, device: str = "cpu", progress: Progress | None = None
) -> None:
    """Write all components but the VAE into a Cosmos folder, in bfloat16.

    Args:
        size: "tiny" (0.3 MB) or "4b" (13.6 GB).
        folder: holds `model_index.json` and `vae`.

    Raises:
        ValueError: for an unknown size.
        OSError: if it cannot be written.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    channels = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["z_dim"]
    shape = pipeline_geometry(size, channels=channels)
    for name, model in build_on_meta(shape).items():
        (folder / name).mkdir()
        _write_config(model, folder / name)
        # Transformers ties the encoder's table to the shared one, and writes it once.
        tensors = {key: value for key, value in model.state_dict().items() if key != "encoder.embed_tokens.weight"}
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
    scheduler: Any = FlowMatchEulerDiscreteScheduler(**shape.scheduler_config)
    scheduler.save_pretrained(folder / "scheduler")
    _build_tokenizer(shape).save_pretrained(folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    (folder / "model_index.json").write_text(json.dumps({**index, **_INDEX}, indent=2) + "\n", encoding="utf-8")


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
