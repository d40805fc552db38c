"""The form of a model's clip arguments, before anything is computed of them.

In: `world_frames`, `world_num_frames` and `world_latents` as a caller gave them. Out: nothing, or one line that names
the argument and what it must be. Values, frame counts and sides are checked where they are encoded.
"""

from typing import Any

import torch

_MAKES = "TheWorldProcessor makes it of any clip"
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_DIMENSIONS = (5, 6)  # a clip a row, or several


def check_clip_inputs(frames: Any = None, num_frames: Any = None, latents: Any = None) -> None:
    """Raise a `ValueError` for what is no tensor, or has another shape than such an argument."""
    axes = "frames, height, width"
    _check_tensor("world_frames", frames, f"(batch, 3, {axes}), floating point, in [-1, 1]")
    _check_tensor("world_latents", latents, "(batch, channels, steps, height, width), floating point")
    _check_tensor("world_num_frames", num_frames, "(batch,) or (batch, clips), whole numbers")
    if frames is not None and frames.ndim not in _DIMENSIONS:
        raise ValueError(
            f"world_frames must have shape (batch, 3, {axes}), or (batch, clips, 3, {axes}), got {tuple(frames.shape)}"
        )
    if latents is not None and latents.ndim not in _DIMENSIONS:
        raise ValueError(
            "world_latents must have shape (batch, channels, steps, height, width), or (batch, clips, channels, ...), "
            f"got {tuple(latents.shape)}"
        )
    clips = frames if frames is not None else latents
    if num_frames is None:
        return
    if clips is None:
        raise ValueError(
            "world_num_frames says how long clips are, and there is none; give world_frames, or leave it out"
        )
    if num_frames.dtype not in _WHOLE or num_frames.shape != clips.shape[:-4]:
        raise ValueError(
            f"world_num_frames must hold a whole number a clip, shape {tuple(clips.shape[:-4])}, "
            f"got {tuple(num_frames.shape)}, {num_frames.dtype}"
        )


def _check_tensor(name: str, value: Any, wanted: str) -> None:
    if value is not None and not isinstance(value, torch.Tensor):
        kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        raise ValueError(f"{name} must be a torch tensor {wanted}, got {kind}; {_MAKES}")
