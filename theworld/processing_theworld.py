"""TheWorldProcessor: Gemma 3's processor, which also takes clips: pictures, arrays, tensors and video files.

In: text with `<start_of_world>` where a clip belongs, or chat messages with clips in them; images; clips. Out: Gemma
3's inputs, with the world placeholders already in `input_ids`, `world_frames` in [-1, 1], and notes of what was done.
"""

# B batch, K clips a row, F frames

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BatchFeature, Gemma3Processor

from theworld.checkpoints.bounded_files import is_regular_file, read_json_object
from theworld.checkpoints.vae_rules import num_latent_steps
from theworld.clips.batches import clips_of, rows_of, stack_clips
from theworld.clips.frames import PreparedClip, prepare_clip
from theworld.clips.messages import Conversation, read_conversation, with_clips
from theworld.clips.rules import DEFAULT_FPS, ClipNote, ClipRules
from theworld.configuration_theworld import WorldConfig
from theworld.rollout_config import check_num_world_steps
from theworld.world_sizes import DEFAULT_FRAME_SIZE
from theworld.world_tokens import END_OF_WORLD, START_OF_WORLD, WORLD_PLACEHOLDER, add_world_tokens

_MOST_STEPS = 4096  # of a prompt, where the model's own max_world_steps is not known
_RULES_OF_A_CALL = ("fps", "resize", "length", "value_range")
# Arguments of `apply_chat_template` that are about tokens, and not about the prompt.
_OF_TOKENS = (
    "tokenize",
    "return_dict",
    "return_tensors",
    "processor_kwargs",
    "return_assistant_tokens_mask",
    "sanitize_control_tokens",
)


class WorldFeatures(BatchFeature):
    """What the processor returns: a `BatchFeature`, and beside its tensors a note of each clip.

    Attributes:
        clip_notes: of each row, a `ClipNote` a clip; empty where no row has one.
    """

    clip_notes: tuple[tuple[ClipNote, ...], ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and deeply copied, as the workers of a data loader do: the notes too."""
        return {**super().__getstate__(), "clip_notes": self.clip_notes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back."""
        super().__setstate__(state)
        self.clip_notes = state.get("clip_notes", ())


class TheWorldProcessor(Gemma3Processor):
    """Text, images and clips to model inputs.

    Args:
        frame_size: height and width, in pixels, that clips are brought to; a multiple of `spatial_compression`.
        world_token: the tokenizer's token that stands for one world token; as in `WorldConfig`.
        spatial_compression: pixels a latent cell of the model's VAE, each way: 8 of Wan 2.1, 16 of Wan 2.2.
        max_world_steps: the most latent steps of a clip; None leaves it to the model to refuse more.
        world_fps, world_resize, world_length, world_value_range: see `ClipRules`; a call may give others.
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
        spatial_compression: int = 8,
        max_world_steps: int | None = None,
        world_fps: float | None = DEFAULT_FPS,
        world_resize: str = "crop",
        world_length: str = "pad",
        world_value_range: Sequence[float] = (-1.0, 1.0),
        **kwargs: Any,
    ) -> None:
        self.frame_size = frame_size
        self.world_token = world_token
        self.spatial_compression = spatial_compression
        self.max_world_steps = max_world_steps
        self.world_fps = world_fps
        self.world_resize = world_resize
        self.world_length = world_length
        self.world_value_range = list(world_value_range)
        self.clip_rules()
        add_world_tokens(tokenizer, world_token)
        super().__init__(image_processor, tokenizer, chat_template, image_seq_length, **kwargs)

    def clip_rules(self, **given: Any) -> ClipRules:
        """The rules by which clips are made ready.

        Args:
            given: `world_fps`, `world_resize`, `world_length`, `world_value_range` of one call.

        Raises:
            ValueError: for a setting that is none.
        """
        of_a_call = {name: given.get(f"world_{name}", getattr(self, f"world_{name}")) for name in _RULES_OF_A_CALL}
        of_a_call["value_range"] = tuple(of_a_call["value_range"])
        return ClipRules(
            frame_size=self.frame_size,
            max_world_steps=self.max_world_steps,
            spatial_compression=self.spatial_compression,
            **of_a_call,
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, world_config: WorldConfig | None = None, **kwargs: Any
    ) -> Any:
        """Load as every processor is; what the model decides is taken from the model.

        Args:
            world_config: of a loaded model: `model.world_config`. A saved model in the same folder says it by itself.
            args, kwargs: of `ProcessorMixin.from_pretrained`, and the class's own; these go before the model's.
        """
        settings = {} if world_config is None else _settings_of(world_config)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **{**settings, **kwargs})

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict[str, Any], Any]:
        """Read the settings, as every processor does; a saved model in the same folder says what it decides.

        Raises:
            ValueError: if processor and model of one folder differ.
        """
        folder = Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        values, others = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        for name, value in _settings_beside(folder / "config.json").items():
            if values.get(name) is None:
                values[name] = value
            elif name not in others and values[name] != value:
                raise ValueError(
                    f"{folder}: processor_config.json has {name} {values[name]}, and "
                    f"the model's config.json {value}; name the one that is meant: {name}={value}"
                )
        return values, others

    @property
    def model_input_names(self) -> list[str]:
        """Names of the inputs that `__call__` may return."""
        return [*super().model_input_names, "world_frames", "world_num_frames", "num_world_steps"]

    def __call__(  # type: ignore[override]
        self, images: Any = None, text: Any = None, world_frames: Any = None, num_world_steps: int = 0, **kwargs: Any
    ) -> BatchFeature:
        """Process a batch.

        Args:
            images: as for Gemma 3.
            text: a prompt, or one a row; `<start_of_world>` marks where each of the row's clips belongs.
            world_frames: one clip a row (or a single clip for a single prompt), in any form that `prepare_clip` takes:
                a picture or a list of them, an array or tensor, a video's path or bytes. None for a row without a clip;
                a list of clips for a row with several.
            num_world_steps: latent steps that the model is to predict after each clip's: their placeholders are
                written too, and the number is returned, for `generate`.
            kwargs: of `Gemma3Processor`; and `world_fps`, `world_resize`, `world_length`, `world_value_range`, in
                place of the processor's own.

        Returns:
            Gemma 3's inputs; with clips also `world_frames` (B, 3, F, height, width), float32, or
            (B, K, 3, F, height, width) where a row has several clips; and, if clips differ in length,
            `world_num_frames` (B,) or (B, K), int64. The attribute `clip_notes` says what was done to each clip.

        Raises:
            ValueError: if clips and markers do not match, a clip cannot be read, or has more steps than there may be.
        """
        most = self.max_world_steps or _MOST_STEPS
        check_num_world_steps(num_world_steps, most=most - 1)
        given = {name: kwargs.pop(name) for name in [f"world_{rule}" for rule in _RULES_OF_A_CALL] if name in kwargs}
        if world_frames is None:
            if num_world_steps:
                raise ValueError("num_world_steps says how far to look ahead from world_frames; give some")
            self._check_markers(text, [])
            return WorldFeatures(super().__call__(images=images, text=text, **kwargs).data)
        if text is None:
            raise ValueError(f"world_frames need a text that holds {START_OF_WORLD} where the clip belongs")
        prompts = [text] if isinstance(text, str) else list(text)
        rules = self.clip_rules(**given)
        asked = [clips_of(row) for row in rows_of(world_frames, text)]
        self._check_markers(prompts, asked)
        prepared = [[prepare_clip(clip, rules) for clip in clips] for clips in asked]
        rows = [[clip.frames for clip in clips] for clips in prepared]
        for clip in (clip for clips in rows for clip in clips):
            check_num_world_steps(num_world_steps, most=most - num_latent_steps(clip.shape[1]))
        expanded = [self._expand(prompt, clips, num_world_steps) for prompt, clips in zip(prompts, rows, strict=True)]
        features = WorldFeatures(super().__call__(images=images, text=expanded, **kwargs).data)
        self._check_not_truncated(features["input_ids"], rows, num_world_steps)
        features.update(stack_clips(rows))
        if num_world_steps:
            features["num_world_steps"] = num_world_steps
        features.clip_notes = tuple(tuple(clip.note for clip in clips) for clips in prepared)
        return features

    def apply_chat_template(  # pyrefly: ignore[bad-override]
        self, conversation: Any, chat_template: Any = None, **kwargs: Any
    ) -> Any:
        """Render messages, whose items of type "world" and "video" are clips, with any template that Gemma 3 has.

        Args:
            conversation: messages, or a batch of them. A clip's item holds it as its type or its path:
                {"type": "video", "path": "clip.mp4"}, {"type": "world", "world": frames}. Bare, it marks a place.
            chat_template, kwargs: of `ProcessorMixin.apply_chat_template`; with `tokenize=True` and `return_dict=True`
                the clips are read, by the rules that `processor_kwargs` may give.

        Returns:
            The prompt, or one a conversation; tokenised, what `__call__` returns.

        Raises:
            ValueError: for an item, or a clip, that nobody would read.
        """
        is_one = isinstance(conversation, (list, tuple)) and bool(conversation) and isinstance(conversation[0], Mapping)
        read = [read_conversation(messages) for messages in ([conversation] if is_one else conversation)]
        messages = read[0].messages if is_one else [each.messages for each in read]
        if any(each.num_markers for each in read):
            self._check_rendered(messages, read, chat_template, kwargs)
        if kwargs.get("tokenize") and any(each.clips for each in read):
            kwargs["processor_kwargs"] = with_clips(read, kwargs)
        return super().apply_chat_template(messages, chat_template, **kwargs)

    def _check_rendered(self, messages: Any, read: list[Conversation], template: Any, kwargs: dict[str, Any]) -> None:
        """Refuse clips that the template leaves out, as Gemma 3's does with all but the first item of a system's."""
        asked = {name: value for name, value in kwargs.items() if name not in _OF_TOKENS}
        rendered = super().apply_chat_template(messages, template, **asked)
        prompts = [rendered] if isinstance(rendered, str) else rendered
        for row, (prompt, each) in enumerate(zip(prompts, read, strict=True)):
            if prompt.count(START_OF_WORLD) != each.num_markers:
                raise ValueError(
                    f"conversation {row} holds {each.num_markers} clips, and its chat template renders "
                    f"{prompt.count(START_OF_WORLD)}; put clips into the user's messages"
                )

    def prepare_clip(self, clip: Any) -> PreparedClip:
        """Make one clip ready, by the processor's rules: see `theworld.clips.frames.prepare_clip`."""
        return prepare_clip(clip, self.clip_rules())

    def to_frames(self, clip: Any) -> torch.Tensor:
        """Turn one clip, in any accepted form, to (3, F, height, width), float32, in [-1, 1]."""
        return self.prepare_clip(clip).frames

    def num_world_tokens(self, clip: torch.Tensor, num_world_steps: int = 0) -> int:
        """World tokens that a clip (3, F, height, width) becomes, with the steps predicted after it."""
        _, num_frames, height, width = clip.shape
        num_steps = num_latent_steps(num_frames) + num_world_steps
        return num_steps * math.prod(side // self.spatial_compression for side in (height, width))

    def _world_sequence(self, clip: torch.Tensor, num_world_steps: int) -> str:
        return START_OF_WORLD + self.world_token * self.num_world_tokens(clip, num_world_steps) + END_OF_WORLD

    def _expand(self, prompt: str, clips: list[torch.Tensor], num_world_steps: int) -> str:
        """Write each clip's world tokens where its marker is."""
        before, *parts = prompt.split(START_OF_WORLD)
        sequences = [self._world_sequence(clip, num_world_steps) for clip in clips]
        return before + "".join(sequence + part for sequence, part in zip(sequences, parts, strict=True))

    def _check_markers(self, text: Any, rows: list[list[Any]]) -> None:
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

    def _check_not_truncated(self, input_ids: Any, rows: list[list[torch.Tensor]], num_world_steps: int) -> None:
        placeholder = self.tokenizer.convert_tokens_to_ids(self.world_token)
        for row, clips in enumerate(rows):
            expected = sum(self.num_world_tokens(clip, num_world_steps) for clip in clips)
            found = sum(int(token) == placeholder for token in input_ids[row])
            if found != expected:
                raise ValueError(
                    f"prompt {row} was cut to {found} of its {expected} world tokens; "
                    "raise max_length or do not truncate"
                )


def _settings_of(world_config: WorldConfig) -> dict[str, Any]:
    """The processor's settings that a model decides."""
    return {
        "frame_size": world_config.frame_size,
        "world_token": world_config.world_token,
        "spatial_compression": world_config.spatial_compression,
        "max_world_steps": world_config.max_world_steps,
    }


def _settings_beside(path: Path) -> dict[str, Any]:
    """The settings that a saved model in the same folder decides; none where there is no such model."""
    world = read_json_object(path).get("world_config") if is_regular_file(path) else None
    return _settings_of(WorldConfig.from_dict(world)) if isinstance(world, dict) else {}
