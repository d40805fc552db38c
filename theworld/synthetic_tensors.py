"""Random tensors by name, and the safetensors files that they are written to.

In: names and shapes. Out: files. A tensor depends only on its name, shape, the seed and the device type that draws it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from theworld.checkpoints.tensor_files import write_tensors

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]  # bytes written, bytes in all


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
        scales = ("vision_tower.", "transformer.", "text_encoder.")
        is_norm = "norm" in name and name.endswith("weight") and any(part in name for part in scales)
        is_scale = name.endswith("gamma") or is_norm
        mean, std = (1.0 if is_scale else 0.0), 0.1
    values = torch.empty(shape, dtype=torch.float32, device=device).normal_(mean, std, generator=generator)
    return values.to(torch.bfloat16)


def _split(sizes: dict[str, int], max_bytes: int) -> Iterator[list[str]]:
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


def write_shards(
    meta_tensors: dict[str, "torch.Tensor"],
    folder: Path,
    max_shard_bytes: int,
    *,
    seed: int,
    device: str,
    progress: Progress | None,
    stem: str = "model",
    prefix: str = "",
) -> None:
    """Draw tensors and write them, a shard at a time, with their index.

    Args:
        meta_tensors: names and shapes.
        stem: of the files' names.
        prefix: goes before a name, so that equal names of several components are drawn differently.
    """
    sizes = {name: 2 * tensor.numel() for name, tensor in meta_tensors.items()}
    shards = list(_split(sizes, max_shard_bytes))
    weight_map, written = {}, 0
    for i, names in enumerate(shards, start=1):
        filename = f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors"
        tensors = {
            name: draw_tensor(prefix + name, meta_tensors[name].shape, seed=seed, device=device) for name in names
        }
        write_tensors(tensors, folder / filename)
        weight_map.update(dict.fromkeys(names, filename))
        written += sum(sizes[name] for name in names)
        if progress is not None:
            progress(written, sum(sizes.values()))
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
