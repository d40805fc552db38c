"""The Cosmos (Wan) video VAE as an encoder: frames in [-1, 1] to normalised latents.

In: frames, and a Cosmos repository or a `vae` folder. Out: latents with the statistics that the
diffusion model was trained on. diffusers is imported here, and only where the branch is on.
"""

# B batch, F frames, T = 1 + (F - 1) / 4 latent steps, H W latent grid, C its channels

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from theworld.checkpoints.bounded_files import check_readable_path, is_folder, is_regular_file, read_json_object
from theworld.checkpoints.checkpoint_files import check_safetensors_folder
from theworld.checkpoints.error_text import file_error, not_reachable, one_line, shown_name
from theworld.checkpoints.key_audit import audit_model, read_headers
from theworld.checkpoints.key_problems import require_complete, require_matching_keys
from theworld.checkpoints.vae_rules import (
    DEFAULT_SPATIAL_COMPRESSION,
    TEMPORAL_COMPRESSION,
    LatentShape,
    check_vae_config,
    latent_shape,
    num_latent_steps,
)

VAE_CLASS_NAME = "AutoencoderKLWan"


def _vae_class() -> Any:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan


class WorldEncoder(nn.Module):
    """Encodes frames with a `diffusers.AutoencoderKLWan`: under no_grad while its encoder is frozen."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    @classmethod
    def from_vae_config(cls, vae_config: dict[str, Any]) -> "WorldEncoder":
        """Build around a fresh `diffusers.AutoencoderKLWan`, on torch's current default device and dtype."""
        return cls(_vae_class().from_config(vae_config))

    @property
    def latent_shape(self) -> LatentShape:
        """The shape of latents, as the VAE's config says."""
        return latent_shape(self.vae.config)

    @property
    def is_frozen(self) -> bool:
        """Whether no parameter of the VAE's encoder is trainable."""
        return not any(parameter.requires_grad for parameter in self.vae.encoder.parameters())

    def train(self, mode: bool = True) -> "WorldEncoder":
        """Set the mode; the VAE stays in eval while it is frozen."""
        super().train(mode)
        if self.is_frozen:
            self.vae.eval()
        return self

    def forward(self, frames_BCFHW: torch.Tensor) -> torch.Tensor:
        """Encode frames to normalised Cosmos latents.

        Args:
            frames_BCFHW: (B, 3, F, height, width), float, in [-1, 1]; F = 1 + 4k, height and width
                multiples of the VAE's `spatial_compression` (8 of Wan 2.1, 16 of Wan 2.2).

        Returns:
            (B, C, T, H, W) in the VAE's dtype: the mode of the posterior, less
            `latents_mean`, over `latents_std` (as diffusers' Cosmos2VideoToWorldPipeline does before it
            multiplies by its scheduler's sigma_data).

        Raises:
            ValueError: for another shape, an integer dtype, or values outside [-1, 1].
        """
        check_frames(frames_BCFHW, self.latent_shape.spatial_compression)
        # Not the VAE's own device and dtype: it looks for them among its parameters, of which a replica has none.
        weight = self.vae.encoder.conv_in.weight
        frames = frames_BCFHW.to(dtype=weight.dtype)
        if not weight.is_meta:  # offloaded: its hook knows where
            frames = frames.to(weight.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            latents_BCTHW = self.vae.encode(frames).latent_dist.mode()
        num_steps = num_latent_steps(frames.shape[2])
        if latents_BCTHW.shape[2] != num_steps:
            raise ValueError(
                f"the VAE made {latents_BCTHW.shape[2]} latent steps of {frames.shape[2]} frames, and not {num_steps}: "
                "hooks copied the lists that it keeps; give dispatch_model skip_keys=model._skip_keys_device_placement"
            )
        # Made anew from the config's floats: a buffer here could be cast or lost, as rotary ones are.
        mean, std = (
            torch.tensor(self.vae.config[name], dtype=torch.float32, device=frames.device).view(1, -1, 1, 1, 1)
            for name in ("latents_mean", "latents_std")
        )
        return ((latents_BCTHW.float() - mean) / std).to(latents_BCTHW.dtype)


def check_frames(frames_BCFHW: torch.Tensor, spatial_compression: int = DEFAULT_SPATIAL_COMPRESSION) -> None:
    """Raise a `ValueError` that names what is wrong with frames, and the fix."""
    shape = tuple(frames_BCFHW.shape)
    if frames_BCFHW.ndim != 5 or shape[1] != 3:
        raise ValueError(f"world_frames must have shape (batch, 3, frames, height, width), got {shape}")
    if not frames_BCFHW.is_floating_point():
        raise ValueError(
            f"world_frames must be floating point in [-1, 1], got {frames_BCFHW.dtype}; divide by 127.5 and subtract 1"
        )
    if (shape[2] - 1) % TEMPORAL_COMPRESSION:
        nearest = 1 + (shape[2] - 1) // TEMPORAL_COMPRESSION * TEMPORAL_COMPRESSION
        raise ValueError(f"world_frames must have 1 + 4k frames, got {shape[2]}; {nearest} would do")
    if any(side % spatial_compression or side == 0 for side in shape[3:]):
        raise ValueError(f"world_frames' height and width must be multiples of {spatial_compression}, got {shape[3:]}")
    if frames_BCFHW.device.type == "meta" or torch.compiler.is_compiling():
        return
    low, high = (float(bound) for bound in torch.aminmax(frames_BCFHW.detach().float()))
    if math.isnan(low):
        raise ValueError("world_frames must be in [-1, 1], and some of them are no numbers (NaN)")
    if not (low >= -1.0 and high <= 1.0):
        fix = "divide by 127.5 and subtract 1" if high > 2 else "clamp or rescale them"
        raise ValueError(f"world_frames must be in [-1, 1], got [{low:.1f}, {high:.1f}]; {fix}")


def read_vae_config(cosmos_model_name_or_path: str) -> tuple[dict[str, Any], str | None]:
    """Read the VAE's config from a Cosmos repository (its `vae` sub-folder) or from a VAE folder.

    Returns:
        The config, without diffusers' private keys, and the sub-folder it lies in (or None).

    Raises:
        ValueError: if nothing is there, it is not a Wan VAE, or a field is out of range.
    """
    check_readable_path(cosmos_model_name_or_path)
    folder = Path(cosmos_model_name_or_path)
    subfolder: str | None = "vae"
    if is_folder(folder):
        if not is_regular_file(folder / "vae" / "config.json"):
            subfolder = None
        if subfolder is None and not is_regular_file(folder / "config.json"):
            raise file_error(folder, "no vae/config.json", "give a Cosmos repository or its vae folder")
        config = read_json_object(folder / (subfolder or "") / "config.json")
    else:
        try:
            config = _vae_class().load_config(cosmos_model_name_or_path, subfolder=subfolder)
        except (OSError, ValueError) as error:
            raise not_reachable(cosmos_model_name_or_path, error) from error
    where = str(folder / (subfolder or "") / "config.json")
    class_name = config.get("_class_name")
    if class_name != VAE_CLASS_NAME:
        raise ValueError(
            f"{one_line(where)}: _class_name is {shown_name(repr(class_name))}, and TheWorld needs {VAE_CLASS_NAME!r}"
        )
    values = {key: value for key, value in config.items() if not key.startswith("_")}
    check_vae_config(values, where=where)
    return values, subfolder


def load_vae(cosmos_model_name_or_path: str, *, dtype: torch.dtype) -> Any:
    """Load the VAE's safetensors weights, in `dtype`, on the CPU; not one of them is left random.

    Raises:
        ValueError: if the repository holds no readable Wan VAE, or its keys are not those of its config.
    """
    config, subfolder = read_vae_config(cosmos_model_name_or_path)
    folder = Path(cosmos_model_name_or_path, subfolder or "")
    if folder.is_dir():
        weights = check_safetensors_folder(folder, "diffusers")
        with torch.device("meta"):
            empty = _vae_class().from_config(config)
        require_matching_keys(audit_model(weights, read_headers(weights), empty))
        # The folder itself: diffusers would take a file of the repository's top before the sub-folder's.
        return _vae_class().from_pretrained(str(folder), torch_dtype=dtype, use_safetensors=True)
    try:
        vae, info = _vae_class().from_pretrained(
            cosmos_model_name_or_path,
            subfolder=subfolder,
            torch_dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise not_reachable(cosmos_model_name_or_path, error) from error
    require_complete(cosmos_model_name_or_path, info)
    return vae
