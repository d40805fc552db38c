"""Clips of a batch: which row each belongs to, and all of them in one tensor.

In: what was given as `world_frames`, or clips made ready. Out: rows; `world_frames` and `world_num_frames`.
"""

# B batch, K clips a row, F frames

from typing import Any

import numpy as np
import torch

from theworld.clips.frames import is_picture


def rows_of(world_frames: Any, text: Any) -> list[Any]:
    """Split `world_frames` into rows: a single prompt may come with its clip alone."""
    if isinstance(world_frames, (torch.Tensor, np.ndarray)) and world_frames.ndim == 5:
        return list(world_frames)
    if isinstance(text, str) and not (isinstance(world_frames, list) and len(world_frames) == 1):
        return [world_frames]
    if isinstance(world_frames, (list, tuple)):
        return list(world_frames)
    return [world_frames]


def clips_of(row: Any) -> list[Any]:
    """The clips of one row: none, one, or a list of them; a list of pictures is one clip."""
    if row is None:
        return []
    is_list = isinstance(row, (list, tuple)) and bool(row)
    return list(row) if is_list and not is_picture(row[0]) else [row]


def stack_clips(rows: list[list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack clips to (B, 3, F, height, width), or (B, K, 3, F, height, width) where a row has K > 1 clips.

    A shorter clip is padded with its last frame, and a row with fewer clips with empty ones.
    """
    present = [clip for clips in rows for clip in clips]
    if not present:
        return {}
    sizes = {tuple(clip.shape[2:]) for clip in present}
    if len(sizes) > 1:
        raise ValueError(f"clips of one batch must have one height and width, got {sorted(sizes)}; resize them")
    longest = max(clip.shape[1] for clip in present)
    most = max(map(len, rows))
    empty = torch.zeros(3, longest, *next(iter(sizes)))
    padded = [[_pad(clip, longest) for clip in clips] + [empty] * (most - len(clips)) for clips in rows]
    lengths = [[clip.shape[1] for clip in clips] + [0] * (most - len(clips)) for clips in rows]
    frames, num_frames = torch.stack([torch.stack(clips) for clips in padded]), torch.tensor(lengths)
    if most == 1:
        frames, num_frames = frames[:, 0], num_frames[:, 0]
    stacked = {"world_frames": frames}
    if bool((num_frames != longest).any()):
        stacked["world_num_frames"] = num_frames
    return stacked


def _pad(clip: torch.Tensor, num_frames: int) -> torch.Tensor:
    return torch.cat([clip, clip[:, -1:].expand(-1, num_frames - clip.shape[1], -1, -1)], dim=1)
