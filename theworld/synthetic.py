"""Random-weight checkpoints in the real on-disk format, for tests and for machines without a hub.

In: a size and a seed. Out: `DIR/gemma` (sharded safetensors, configs, tokenizer, image processor, as
google/gemma-3-4b-it has them) and `DIR/cosmos` (a `vae` sub-folder, as a Cosmos-Predict2 repository has; the rest of
its pipeline where it is asked for).
Every tensor depends only on its name, shape, the seed and the device type that draws it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.tensor_files import write_tensors
from theworld.geometries import SIZES, Geometry, geometry
from theworld.synthetic_tensors import Progress, draw_tensor, write_shards
from theworld.vae_geometries import DEFAULT_VAE

GEMMA_FOLDER, COSMOS_FOLDER = "gemma", "cosmos"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCheckpoint:
    """Where a synthetic checkpoint's two repositories lie."""

    gemma: Path
    cosmos: Path


def write_checkpoint(
    size: str | Geometry,
    directory: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    vae: str = DEFAULT_VAE,
    pipeline: str | None = None,
    progress: Progress | None = None,
    scratch: Path | None = None,
) -> SyntheticCheckpoint:
    """Write a checkpoint in bfloat16; the folder appears whole or not at all.

    Args:
        size: "tiny" (a few MB), "4b" (8.9 GB), or a geometry of your own.
        directory: a folder that does not exist yet, or is empty.
        seed: of every tensor.
        device: where tensors are drawn: "cpu", or "cuda" (much faster; other numbers).
        vae: "wan2.1" (of Cosmos-Predict2), or "wan2.2" (of Cosmos 3).
        pipeline: write the rest of Cosmos's pipeline too, which predicts: "predict2" ("4b": 13.6 GB) or "predict2.5"
            (20.7 GB); None for the VAE alone.
        progress: called after each shard.
        scratch: an empty folder to write in first, beside `directory`; a new one, that is removed, by default.

    Raises:
        ValueError: for an unknown size or VAE, or a folder that holds something.
        OSError: if it cannot be written.
    """
    shape = size if isinstance(size, Geometry) else geometry(size, vae)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory}: already there and not an empty folder; name a new one")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if scratch is None:
        scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        _write_gemma(shape, scratch / GEMMA_FOLDER, seed=seed, device=device, progress=progress)
        _write_cosmos(shape, scratch / COSMOS_FOLDER, seed=seed, device=device)
        if pipeline is not None:
            from theworld.synthetic_pipeline import write_pipeline

            if isinstance(size, Geometry):
                raise ValueError(f"a pipeline is written for a named size; give one of {', '.join(SIZES)}")
            write_pipeline(
                size, scratch / COSMOS_FOLDER, generation=pipeline, seed=seed, device=device, progress=progress
            )
        scratch.chmod(0o755)
        if directory.exists():
            directory.rmdir()
        os.replace(scratch, directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return SyntheticCheckpoint(gemma=directory / GEMMA_FOLDER, cosmos=directory / COSMOS_FOLDER)


def cached_checkpoint(size: str = "tiny", *, seed: int = 0, vae: str = DEFAULT_VAE) -> SyntheticCheckpoint:
    """Return a checkpoint from the user's cache folder, written first if it is not there.

    The folder's name holds a digest of the recipe (geometry, seed and the code that draws), so a changed
    recipe is a new folder. `THEWORLD_CACHE` overrides where it lies.
    """
    directory = cache_folder(size, seed=seed, vae=vae)
    if not directory.is_dir():
        try:
            return write_checkpoint(size, directory, seed=seed, vae=vae)
        except (OSError, ValueError):
            if not directory.is_dir():  # not merely another process that was first
                raise
    return SyntheticCheckpoint(gemma=directory / GEMMA_FOLDER, cosmos=directory / COSMOS_FOLDER)


def cache_folder(size: str = "tiny", *, seed: int = 0, vae: str = DEFAULT_VAE) -> Path:
    """Where `cached_checkpoint` has a checkpoint, or will have it."""
    cache = os.environ.get("THEWORLD_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "theworld"
    )
    return Path(cache, f"{size}-{recipe_digest(size, seed=seed, vae=vae)}")


def recipe_digest(size: str, *, seed: int, vae: str = DEFAULT_VAE) -> str:
    """Digest of all that decides a checkpoint's bytes: 16 hexadecimal digits."""
    here = Path(__file__).parent
    code = b"".join(path.read_bytes() for path in sorted(here.glob("synthetic*.py")))
    recipe = json.dumps([asdict(geometry(size, vae)), seed], sort_keys=True).encode()
    return hashlib.sha256(code + recipe).hexdigest()[:16]


def _write_gemma(shape: Geometry, folder: Path, *, seed: int, device: str, progress: Progress | None) -> None:
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor, GenerationConfig
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    own_fields: dict[str, Any] = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "dtype": "bfloat16",
        "eos_token_id": [1, 106],
    }
    config = Gemma3Config(**shape.gemma_config, **own_fields)
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(config)
    tied = set(model.all_tied_weights_keys)
    meta_tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    # transformers loads the hub's `vision_model` level away, and cannot know that a fresh model's files have it.
    on_disk = {
        name.replace("vision_tower.", "vision_tower.vision_model.", 1): tensor
        for name, tensor in revert_weight_conversion(model, meta_tensors).items()
    }

    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=2, eos_token_id=[1, 106], pad_token_id=0, do_sample=True, top_k=64, top_p=0.95
    ).save_pretrained(folder)
    side = shape.gemma_config["vision_config"]["image_size"]
    Gemma3Processor(
        Gemma3ImageProcessorPil(
            size={"height": side, "width": side}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
        ),
        _build_tokenizer(shape),
        image_seq_length=shape.gemma_config["mm_tokens_per_image"],
    ).save_pretrained(folder)
    write_shards(on_disk, folder, shape.max_shard_bytes, seed=seed, device=device, progress=progress)


def _build_tokenizer(shape: Geometry) -> Any:
    from theworld.synthetic_tokenizer import build_tokenizer

    return build_tokenizer(shape)


def _write_cosmos(shape: Geometry, folder: Path, *, seed: int, device: str) -> None:
    import torch
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        vae: Any = AutoencoderKLWan(**shape.vae_config)
    (folder / "vae").mkdir(parents=True)
    vae.save_config(folder / "vae")
    tensors = {
        name: draw_tensor(f"vae.{name}", tensor.shape, seed=seed, device=device)
        for name, tensor in vae.state_dict().items()
    }
    write_tensors(tensors, folder / "vae" / "diffusion_pytorch_model.safetensors")
    pipeline = {"_class_name": "Cosmos2VideoToWorldPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}
    (folder / "model_index.json").write_text(json.dumps(pipeline, indent=2) + "\n")
