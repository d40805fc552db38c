"""TheWorldProcessor: Gemma 3's processor, which also takes one clip of frames a row.

In: text with `<start_of_world>` where a clip belongs, images, frames. Out: Gemma 3's inputs, with
the world placeholders already in `input_ids`, and `world_frames` in [-1, 1].
"""

# B batch, F frames

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, Gemma3Processor

from theworld.checkpoints.bounded_files import is_regular_file, read_json_object
from theworld.checkpoints.vae_rules import num_latent_steps
from theworld.configuration_theworld import DEFAULT_FRAME_SIZE, SPATIAL_COMPRESSION
from theworld.world_encoder import check_frames
from theworld.world_tokens import END_OF_WORLD, START_OF_WORLD, WORLD_PLACEHOLDER, add_world_tokens

_NOT_READ = ("video", "audio")  # types of content that Gemma's template passes over


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
        frame_size: int = DEFAULT_FRAME_SIZE,
        world_token: str = WORLD_PLACEHOLDER,
        **kwargs: Any,
    ) -> None:
        if type(frame_size) is not int or frame_size < 1 or frame_size % SPATIAL_COMPRESSION:
            raise ValueError(f"frame_size must be a positive multiple of {SPATIAL_COMPRESSION}, got {frame_size!r}")
        self.frame_size = frame_size
        self.world_token = world_token
        add_world_tokens(tokenizer, world_token)
        super().__init__(image_processor, tokenizer, chat_template, image_seq_length, **kwargs)

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict[str, Any], Any]:
        """Read the settings, as every processor does; a saved model in the same folder says the size of frames.

        Raises:
            ValueError: if processor and model of one folder differ in it.
        """
        values, others = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        size = _frame_size_beside(pretrained_model_name_or_path)
        if size is not None and "frame_size" not in others and values.setdefault("frame_size", size) != size:
            raise ValueError(
                f"{pretrained_model_name_or_path}: processor_config.json has frame_size {values['frame_size']}, and "
                f"the model's config.json {size}; name the one that is meant: frame_size={size}"
            )
        return values, others

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
                (3, F, height, width) in [-1, 1]; F = 1 + 4k. None for a row without a clip; a list of clips for a
                row with several.

        Returns:
            Gemma 3's inputs; with frames also `world_frames` (B, 3, F, height, width), float32, or
            (B, K, 3, F, height, width) where a row has several clips; and, if clips differ in length,
            `world_num_frames` (B,) or (B, K), int64.

        Raises:
            ValueError: if clips and markers do not match, or frames are out of range.
        """
        if world_frames is None:
            self._check_markers(text, [])
            return super().__call__(images=images, text=text, **kwargs)
        if text is None:
            raise ValueError(f"world_frames need a text that holds {START_OF_WORLD} where the clip belongs")
        prompts = [text] if isinstance(text, str) else list(text)
        rows = [[self.to_frames(clip) for clip in _clips_of(row)] for row in _a_row_each(world_frames, text)]
        self._check_markers(prompts, rows)
        expanded = [self._expand(prompt, clips) for prompt, clips in zip(prompts, rows, strict=True)]
        features = super().__call__(images=images, text=expanded, **kwargs)
        self._check_not_truncated(features["input_ids"], rows)
        features.update(_stack_clips(rows))
        return features

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """Render messages as Gemma 3's processor does.

        Raises:
            ValueError: if a message holds a video, which nothing here reads yet.
        """
        kinds = {kind for kind in _kinds_of_content(conversation) if kind in _NOT_READ}
        if kinds:
            raise ValueError(
                f"a message holds content of type {min(kinds)!r}, which is not read: write {START_OF_WORLD} into its "
                "text, and give the frames as world_frames"
            )
        return super().apply_chat_template(conversation, *args, **kwargs)

    def num_world_tokens(self, clip: torch.Tensor) -> int:
        """World tokens that a clip (3, F, height, width) becomes."""
        _, num_frames, height, width = clip.shape
        return num_latent_steps(num_frames) * (height // SPATIAL_COMPRESSION) * (width // SPATIAL_COMPRESSION)

    def _world_sequence(self, clip: torch.Tensor) -> str:
        return START_OF_WORLD + self.world_token * self.num_world_tokens(clip) + END_OF_WORLD

    def _expand(self, prompt: str, clips: list[torch.Tensor]) -> str:
        """Write each clip's world tokens where its marker is."""
        before, *parts = prompt.split(START_OF_WORLD)
        return before + "".join(self._world_sequence(clip) + part for clip, part in zip(clips, parts, strict=True))

    def _check_markers(self, text: Any, rows: list[list[torch.Tensor]]) -> None:
        prompts = [text] if isinstance(text, str) else list(text or [])
        if rows and len(rows) != len(prompts):
            raise ValueError(f"{len(rows)} clips and {len(prompts)} prompts: give one clip, or None, a prompt")
        for row, prompt in enumerate(prompts):
            expected = len(rows[row]) if row < len(rows) else 0
            if prompt.count(START_OF_WORLD) != expected:
                raise ValueError(
                    f"prompt {row} holds {prompt.count(START_OF_WORLD)} {START_OF_WORLD} markers and has "
                    f"{expected} clips in world_frames; write the marker once for each clip"
                )
            if self.world_token in prompt:
                raise ValueError(f"prompt {row} holds {self.world_token}, which stands for world tokens; remove it")

    def _check_not_truncated(self, input_ids: Any, rows: list[list[torch.Tensor]]) -> None:
        placeholder = self.tokenizer.convert_tokens_to_ids(self.world_token)
        for row, clips in enumerate(rows):
            expected = sum(map(self.num_world_tokens, clips))
            found = sum(int(token) == placeholder for token in input_ids[row])
            if found != expected:
                raise ValueError(
                    f"prompt {row} was cut to {found} of its {expected} world tokens; "
                    "raise max_length or do not truncate"
                )

    def to_frames(self, clip: Any) -> torch.Tensor:
        """Turn one clip, in any accepted form, to (3, F, height, width), float32, in [-1, 1]."""
        if isinstance(clip, Image.Image):
            clip = [clip]
        if isinstance(clip, np.ndarray) and clip.dtype == np.uint8:
            frames_FHWC = clip if clip.ndim == 4 else clip[None]
            if frames_FHWC.shape[1:] == (self.frame_size, self.frame_size, 3):  # resizing would change no bit
                clip = torch.from_numpy(frames_FHWC.copy()).permute(3, 0, 1, 2).float() / 127.5 - 1.0
            else:
                clip = [Image.fromarray(frame) for frame in frames_FHWC]
        if isinstance(clip, (list, tuple)) and clip and isinstance(clip[0], Image.Image):
            size = (self.frame_size, self.frame_size)
            pixels = np.stack([np.asarray(f.convert("RGB").resize(size, Image.Resampling.BICUBIC)) for f in clip])
            frames = torch.from_numpy(pixels).permute(3, 0, 1, 2).float() / 127.5 - 1.0
        else:
            frames = torch.as_tensor(clip)
            frames = frames[:, None] if frames.ndim == 3 else frames
        check_frames(frames[None])
        return frames.float()


def _frame_size_beside(name_or_path: Any) -> int | None:
    """The size of frames that a saved model in the same folder was made for."""
    path = Path(name_or_path, "config.json")
    if not is_regular_file(path):
        return None
    world = read_json_object(path).get("world_config")
    size = world.get("frame_size") if isinstance(world, dict) else None
    return size if type(size) is int else None


def _kinds_of_content(conversation: Any) -> Iterator[str]:
    """The types of all content items of a conversation, or of a batch of them."""
    if isinstance(conversation, Mapping):
        content = conversation.get("content")
        for item in content if isinstance(content, list) else ():
            if isinstance(item, Mapping) and isinstance(item.get("type"), str):
                yield item["type"]
    elif isinstance(conversation, (list, tuple)):
        for part in conversation:
            yield from _kinds_of_content(part)


def _a_row_each(world_frames: Any, text: Any) -> list[Any]:
    """Split `world_frames` into rows: a single prompt may come with its clip alone."""
    if isinstance(world_frames, (torch.Tensor, np.ndarray)) and world_frames.ndim == 5:
        return list(world_frames)
    if isinstance(text, str) and not (isinstance(world_frames, list) and len(world_frames) == 1):
        return [world_frames]
    if isinstance(world_frames, (list, tuple)):
        return list(world_frames)
    return [world_frames]


def _clips_of(row: Any) -> list[Any]:
    """The clips of one row: none, one, or a list of them; a list of pictures is one clip."""
    if row is None:
        return []
    is_list = isinstance(row, (list, tuple)) and bool(row)
    return list(row) if is_list and not isinstance(row[0], Image.Image) else [row]


def _stack_clips(rows: list[list[torch.Tensor]]) -> dict[str, torch.Tensor]:
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
