"""Random-weight checkpoints in the real on-disk format, for tests and for machines without a hub.

In: a size and a seed. Out: `DIR/gemma` (sharded safetensors, configs, tokenizer, image processor, as
google/gemma-3-4b-it has them) and `DIR/cosmos` (a `vae` sub-folder, as a Cosmos-Predict2 repository has).
Every tensor depends only on its name, shape, the seed and the device type that draws it.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theworld.geometries import Geometry, geometry

if TYPE_CHECKING:
    import torch

GEMMA_FOLDER, COSMOS_FOLDER = "gemma", "cosmos"
Progress = Callable[[int, int], None]  # bytes written, bytes in all


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
    progress: Progress | None = None,
    scratch: Path | None = None,
) -> SyntheticCheckpoint:
    """Write a checkpoint in bfloat16; the folder appears whole or not at all.

    Args:
        size: "tiny" (a few MB), "4b" (8.9 GB), or a geometry of your own.
        directory: a folder that does not exist yet, or is empty.
        seed: of every tensor.
        device: where tensors are drawn: "cpu", or "cuda" (much faster; other numbers).
        progress: called after each shard.
        scratch: an empty folder to write in first, beside `directory`; a new one, that is removed, by default.

    Raises:
        ValueError: for an unknown size, or a folder that holds something.
        OSError: if it cannot be written.
    """
    shape = size if isinstance(size, Geometry) else geometry(size)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory}: already there and not an empty folder; name a new one")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if scratch is None:
        scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        _write_gemma(shape, scratch / GEMMA_FOLDER, seed=seed, device=device, progress=progress)
        _write_cosmos(shape, scratch / COSMOS_FOLDER, seed=seed, device=device)
        scratch.chmod(0o755)
        if directory.exists():
            directory.rmdir()
        os.replace(scratch, directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return SyntheticCheckpoint(gemma=directory / GEMMA_FOLDER, cosmos=directory / COSMOS_FOLDER)


def cached_checkpoint(size: str = "tiny", *, seed: int = 0) -> SyntheticCheckpoint:
    """Return a checkpoint from the user's cache folder, written first if it is not there.

    The folder's name holds a digest of the recipe (geometry, seed and the code that draws), so a changed
    recipe is a new folder. `THEWORLD_CACHE` overrides where it lies.
    """
    directory = cache_folder(size, seed=seed)
    if not directory.is_dir():
        try:
            return write_checkpoint(size, directory, seed=seed)
        except (OSError, ValueError):
            if not directory.is_dir():  # not merely another process that was first
                raise
    return SyntheticCheckpoint(gemma=directory / GEMMA_FOLDER, cosmos=directory / COSMOS_FOLDER)


def cache_folder(size: str = "tiny", *, seed: int = 0) -> Path:
    """Where `cached_checkpoint` has a checkpoint, or will have it."""
    cache = os.environ.get("THEWORLD_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "theworld"
    )
    return Path(cache, f"{size}-{recipe_digest(size, seed=seed)}")


def recipe_digest(size: str, *, seed: int) -> str:
    """Digest of all that decides a checkpoint's bytes: 16 hexadecimal digits."""
    here = Path(__file__).parent
    code = b"".join((here / name).read_bytes() for name in ("synthetic.py", "synthetic_tokenizer.py"))
    recipe = json.dumps([asdict(geometry(size)), seed], sort_keys=True).encode()
    return hashlib.sha256(code + recipe).hexdigest()[:16]


def draw_tensor(name: str, shape: Iterable[int], *, seed: int, device: str) -> "torch.Tensor":
    """Draw one parameter in bfloat16, at a scale that keeps activations lively.

    Norms and biases are drawn too: at their tame initial values a lost one would not show.
    """
    import torch

    shape = tuple(shape)
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little")
    generator = torch.Generator(device).manual_seed(key % 2**63)
    is_vector = sum(side > 1 for side in shape) <= 1
    if name.endswith("embed_tokens.weight"):
        mean, std = 0.0, shape[1] ** -0.5
    elif not is_vector:
        fan_in = shape[0] if name.endswith("mm_input_projection_weight") else math.prod(shape[1:])
        mean, std = 0.0, fan_in**-0.5
    else:
        # Gemma's RMSNorm scales by (1 + weight); LayerNorm and the VAE's norms scale by the weight itself.
        is_scale = name.endswith("gamma") or ("vision_tower" in name and "norm" in name and name.endswith("weight"))
        mean, std = (1.0 if is_scale else 0.0), 0.1
    values = torch.empty(shape, dtype=torch.float32, device=device).normal_(mean, std, generator=generator)
    return values.to(torch.bfloat16)


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
    _write_shards(on_disk, folder, shape.max_shard_bytes, seed=seed, device=device, progress=progress)


def _build_tokenizer(shape: Geometry) -> Any:
    from theworld.synthetic_tokenizer import build_tokenizer

    return build_tokenizer(shape)


def _shards(sizes: dict[str, int], max_bytes: int) -> Iterator[list[str]]:
    shard: list[str] = []
    shard_bytes = 0
    for name, tensor_bytes in sizes.items():
        if shard and shard_bytes + tensor_bytes > max_bytes:
            yield shard
            shard, shard_bytes = [], 0
        shard.append(name)
        shard_bytes += tensor_bytes
    if shard:
        yield shard


def _write_shards(
    meta_tensors: dict[str, "torch.Tensor"],
    folder: Path,
    max_shard_bytes: int,
    *,
    seed: int,
    device: str,
    progress: Progress | None,
) -> None:
    sizes = {name: 2 * tensor.numel() for name, tensor in meta_tensors.items()}
    shards = list(_shards(sizes, max_shard_bytes))
    weight_map, written = {}, 0
    for i, names in enumerate(shards, start=1):
        filename = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: draw_tensor(name, meta_tensors[name].shape, seed=seed, device=device) for name in names}
        _save(tensors, folder / filename)
        weight_map.update(dict.fromkeys(names, filename))
        written += sum(sizes[name] for name in names)
        if progress is not None:
            progress(written, sum(sizes.values()))
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


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
    _save(tensors, folder / "vae" / "diffusion_pytorch_model.safetensors")
    pipeline = {"_class_name": "Cosmos2VideoToWorldPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}
    (folder / "model_index.json").write_text(json.dumps(pipeline, indent=2) + "\n")


def _save(tensors: dict[str, "torch.Tensor"], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(f"{path}: {error}") from error
