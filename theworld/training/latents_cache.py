"""Latents of clips kept on disk, so that the VAE sees each clip once.

In: a batch with frames. Out: the batch with latents in their place. A file's name is the digest of all that decides
its content: the clip, the VAE's weights and settings, and the dtype. Each clip is encoded alone, whatever its batch.
"""

# B batch, K clips a row, F frames, T latent steps

import copy
import json
import logging
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file

from theworld.checkpoints.tensor_files import bytes_of, publish_tensors, update_digest
from theworld.checkpoints.vae_rules import num_latent_steps

log = logging.getLogger("theworld.training")


class LatentsCache:
    """Puts latents into the place of frames; several processes may share its folder.

    Args:
        folder: where files lie; made if it is not there.
        world_encoder: a frozen `WorldEncoder`; a copy is kept, since sharding would make its calls collective.
        is_shared: whether other processes train too: then a batch without clips gets empty latents.
    """

    def __init__(self, folder: Path, world_encoder: Any, *, is_shared: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._is_shared = folder, is_shared
        self._encoder = copy.deepcopy(world_encoder).eval()
        self._identity = _digest_of(self._encoder)
        self.num_read = self.num_encoded = 0

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Replace `world_frames`, (B, 3, F, h, w) or (B, K, 3, F, h, w), by `world_latents`; T is padded with zeros."""
        frames = batch.get("world_frames")
        if frames is None:
            return batch if not self._is_shared else batch | self._nothing(batch["input_ids"])
        flat = frames.flatten(0, -5)
        lengths = batch.get("world_num_frames")
        numbers = [frames.shape[-3]] * len(flat) if lengths is None else lengths.flatten().tolist()
        shape = self._encoder.latent_shape
        height, width = (side // shape.spatial_compression for side in frames.shape[-2:])
        steps = num_latent_steps(frames.shape[-3])
        dtype = next(self._encoder.parameters()).dtype
        latents = torch.zeros(len(flat), shape.channels, steps, height, width, dtype=dtype, device=frames.device)
        for i, number in enumerate(numbers):
            if number:
                latents[i, :, : num_latent_steps(number)] = self._of(flat[i, :, :number])
        rest = {key: value for key, value in batch.items() if key != "world_frames"}
        return rest | {"world_latents": latents.unflatten(0, frames.shape[:-4])}

    def _nothing(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Latents of no clip: other processes' calls of the projection are met, and those of the VAE never come."""
        channels = self._encoder.latent_shape.channels
        latents = torch.zeros(len(input_ids), channels, 1, 1, 1, device=input_ids.device)
        return {"world_latents": latents, "world_num_frames": torch.zeros_like(input_ids[:, 0])}

    def _of(self, clip: torch.Tensor) -> torch.Tensor:
        path = self._folder / f"{self._name(clip)}.safetensors"
        if path.is_file():
            try:
                latents = load_file(path)["latents"].to(clip.device)
                self.num_read += 1
                return latents
            except (SafetensorError, KeyError, OSError):
                log.warning("%s cannot be read: the clip is encoded again", path)
        if next(self._encoder.parameters()).device != clip.device:  # `to` walks the VAE, for every clip
            self._encoder.to(clip.device)
        with torch.no_grad():
            latents = self._encoder(clip[None])[0]
        self.num_encoded += 1
        publish_tensors({"latents": latents.cpu().contiguous()}, path)
        return latents

    def _name(self, clip: torch.Tensor) -> str:
        digest = xxhash.xxh3_128(self._identity)
        update_digest(digest, clip)
        return digest.hexdigest()


def _digest_of(encoder: Any) -> bytes:
    """Digest of the VAE's weights, their names and dtypes, and its settings."""
    settings = {key: value for key, value in encoder.vae.config.items() if not key.startswith("_")}
    digest = xxhash.xxh3_128(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.digest()
