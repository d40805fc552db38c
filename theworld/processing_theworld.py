"""TheWorldProcessor: Gemma 3's processor, which also takes one clip of frames a row.

In: text with `<start_of_world>` where a clip belongs, images, frames. Out: Gemma 3's inputs, with
the world placeholders already in `input_ids`, and `world_frames` in [-1, 1].
"""

# B batch, F frames

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, Gemma3Processor

from theworld.configuration_theworld import SPATIAL_COMPRESSION, TEMPORAL_COMPRESSION
from theworld.world_encoder import check_frames
from theworld.world_tokens import END_OF_WORLD, START_OF_WORLD, WORLD_PLACEHOLDER, add_world_tokens


class TheWorldProcessor(Gemma3Processor):
    """Text, images and frames to model inputs.

    Args:
        frame_size: height and width, in pixels, that pictures are resized to; a multiple of 8.
        world_token: the tokenizer's token that stands for one world token; as in `WorldConfig`.
        The others are those of `Gemma3Processor`.
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        chat_template: Any = None,
        image_seq_length: int = 256,
        frame_size: int = 224,
        world_token: str = WORLD_PLACEHOLDER,
        **kwargs: Any,
    ) -> None:
        if type(frame_size) is not int or frame_size < 1 or frame_size % SPATIAL_COMPRESSION:
            raise ValueError(f"frame_size must be a positive multiple of {SPATIAL_COMPRESSION}, got {frame_size!r}")
        self.frame_size = frame_size
        self.world_token = world_token
        add_world_tokens(tokenizer, world_token)
        super().__init__(image_processor, tokenizer, chat_template, image_seq_length, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the inputs that `__call__` may return."""
        return [*super().model_input_names, "world_frames", "world_num_frames"]

    def __call__(  # type: ignore[override]
        self, images: Any = None, text: Any = None, world_frames: Any = None, **kwargs: Any
    ) -> BatchFeature:
        """Process a batch.

        Args:
            images: as for Gemma 3.
            text: a prompt, or one a row; `<start_of_world>` marks where the row's clip belongs.
            world_frames: one clip a row (or a single clip for a single prompt): a PIL image or a list of them,
                a uint8 array (F, height, width, 3), or a float tensor (3, height, width) or
                (3, F, height, width) in [-1, 1]; F = 1 + 4k. None for a row without a clip.

        Returns:
            Gemma 3's inputs; with frames also `world_frames` (B, 3, F, height, width), float32, and, if rows
            differ in length, `world_num_frames` (B,), int64.

        Raises:
            ValueError: if clips and markers do not match, or frames are out of range.
        """
        if world_frames is None:
            self._check_markers(text, [])
            return super().__call__(images=images, text=text, **kwargs)
        if text is None:
            raise ValueError(f"world_frames need a text that holds {START_OF_WORLD} where the clip belongs")
        prompts = [text] if isinstance(text, str) else list(text)
        clips = [None if clip is None else self._to_frames(clip) for clip in _one_clip_a_row(world_frames, text)]
        self._check_markers(prompts, clips)
        expanded = [
            prompt if clip is None else prompt.replace(START_OF_WORLD, self._world_sequence(clip))
            for prompt, clip in zip(prompts, clips, strict=True)
        ]
        features = super().__call__(images=images, text=expanded, **kwargs)
        self._check_not_truncated(features["input_ids"], clips)
        features.update(_stack_clips(clips))
        return features

    def num_world_tokens(self, clip: torch.Tensor) -> int:
        """World tokens that a clip (3, F, height, width) becomes."""
        _, num_frames, height, width = clip.shape
        num_steps = 1 + (num_frames - 1) // TEMPORAL_COMPRESSION
        return num_steps * (height // SPATIAL_COMPRESSION) * (width // SPATIAL_COMPRESSION)

    def _world_sequence(self, clip: torch.Tensor) -> str:
        return START_OF_WORLD + self.world_token * self.num_world_tokens(clip) + END_OF_WORLD

    def _check_markers(self, text: Any, clips: list[torch.Tensor | None]) -> None:
        prompts = [text] if isinstance(text, str) else list(text or [])
        if clips and len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts: give one clip, or None, a prompt")
        for row, prompt in enumerate(prompts):
            expected = int(row < len(clips) and clips[row] is not None)
            if prompt.count(START_OF_WORLD) != expected:
                raise ValueError(
                    f"prompt {row} holds {prompt.count(START_OF_WORLD)} {START_OF_WORLD} markers and has "
                    f"{expected} clips in world_frames; write the marker once for its clip"
                )
            if self.world_token in prompt:
                raise ValueError(f"prompt {row} holds {self.world_token}, which stands for world tokens; remove it")

    def _check_not_truncated(self, input_ids: Any, clips: list[torch.Tensor | None]) -> None:
        placeholder = self.tokenizer.convert_tokens_to_ids(self.world_token)
        for row, clip in enumerate(clips):
            expected = 0 if clip is None else self.num_world_tokens(clip)
            found = sum(int(token) == placeholder for token in input_ids[row])
            if found != expected:
                raise ValueError(
                    f"prompt {row} was cut to {found} of its {expected} world tokens; "
                    "raise max_length or do not truncate"
                )

    def _to_frames(self, clip: Any) -> torch.Tensor:
        """Turn one clip, in any accepted form, to (3, F, height, width), float32, in [-1, 1]."""
        if isinstance(clip, Image.Image):
            clip = [clip]
        if isinstance(clip, np.ndarray) and clip.dtype == np.uint8:
            clip = [Image.fromarray(frame) for frame in (clip if clip.ndim == 4 else clip[None])]
        if isinstance(clip, (list, tuple)) and clip and isinstance(clip[0], Image.Image):
            size = (self.frame_size, self.frame_size)
            pixels = np.stack([np.asarray(f.convert("RGB").resize(size, Image.Resampling.BICUBIC)) for f in clip])
            frames = torch.from_numpy(pixels).permute(3, 0, 1, 2).float() / 127.5 - 1.0
        else:
            frames = torch.as_tensor(clip)
            frames = frames[:, None] if frames.ndim == 3 else frames
        check_frames(frames[None])
        return frames.float()


def _one_clip_a_row(world_frames: Any, text: Any) -> list[Any]:
    """Split `world_frames` into rows: a single prompt may come with its clip alone."""
    if isinstance(world_frames, (torch.Tensor, np.ndarray)) and world_frames.ndim == 5:
        return list(world_frames)
    if isinstance(text, str) and not (isinstance(world_frames, list) and len(world_frames) == 1):
        return [world_frames]
    if isinstance(world_frames, (list, tuple)):
        return list(world_frames)
    return [world_frames]


def _stack_clips(clips: list[torch.Tensor | None]) -> dict[str, torch.Tensor]:
    """Stack clips to (B, 3, F, height, width); a shorter one is padded with its last frame."""
    present = [clip for clip in clips if clip is not None]
    if not present:
        return {}
    sizes = {tuple(clip.shape[2:]) for clip in present}
    if len(sizes) > 1:
        raise ValueError(f"clips of one batch must have one height and width, got {sorted(sizes)}; resize them")
    longest = max(clip.shape[1] for clip in present)
    rows, num_frames = [], []
    for clip in clips:
        if clip is None:
            rows.append(torch.zeros(3, longest, *next(iter(sizes))))
        else:
            rows.append(torch.cat([clip, clip[:, -1:].expand(-1, longest - clip.shape[1], -1, -1)], dim=1))
        num_frames.append(0 if clip is None else clip.shape[1])
    stacked = {"world_frames": torch.stack(rows)}
    if set(num_frames) != {longest}:
        stacked["world_num_frames"] = torch.tensor(num_frames)
    return stacked
