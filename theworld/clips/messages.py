"""Clips in chat messages: items of type "world" or "video" become markers in the text, which any template renders.

In: conversations. Out: the same with text items in the place of clips, and the clips of each. Gemma 3's published
template knows items of type "text" and "image", and passes over every other without a word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theworld.checkpoints.error_text import shown_name
from theworld.clips.frames import is_picture
from theworld.world_tokens import START_OF_WORLD

CLIP_KINDS = ("world", "video")
_OTHER_KINDS = ("text", "image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation whose clips are markers.

    Args:
        messages: for a chat template.
        clips: of its items, in their order; None for an item that holds no clip of its own.
        num_markers: in its texts, those that were written by hand included.
    """

    messages: list[dict[str, Any]]
    clips: tuple[Any, ...]
    num_markers: int


def read_conversation(messages: Any) -> Conversation:
    """Put markers in the place of clips; the messages that were given stay as they are.

    Raises:
        ValueError: for an item that no template would render, or that holds more than one clip.
    """
    rewritten, clips = [], []
    num_markers = 0
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, (list, tuple)):
            items = [_rewritten(item, clips) for item in content]
            rewritten.append({**message, "content": items})
            num_markers += sum(_count_markers(item.get("text")) for item in items if item.get("type") == "text")
        else:
            rewritten.append(message)
            num_markers += _count_markers(content)
    return Conversation(messages=rewritten, clips=tuple(clips), num_markers=num_markers)


def _count_markers(text: Any) -> int:
    return text.count(START_OF_WORLD) if isinstance(text, str) else 0


def _rewritten(item: Any, clips: list[Any]) -> Any:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind in _OTHER_KINDS:
        return item
    if kind not in CLIP_KINDS:
        shown = shown_name(repr(kind if isinstance(item, Mapping) else item))
        raise ValueError(
            f"a message holds an item of type {shown}, which nobody reads; there are text, image, world and video"
        )
    clips.append(_clip_of(item, kind))
    return {"type": "text", "text": START_OF_WORLD}


def _clip_of(item: Mapping[str, Any], kind: str) -> Any:
    """The clip that an item holds, as the processor takes it; None for a bare place."""
    if "url" in item:
        raise ValueError(f"an item of type {kind!r} has a url, which is not fetched; download it, and give its path")
    keys = (kind, "path")
    unknown = sorted(set(item) - {"type", *keys}, key=str)
    if unknown:
        raise ValueError(
            f"an item of type {kind!r} has {shown_name(repr(unknown[0]))}, which nobody reads; give the clip as "
            f"{kind!r} or 'path', and settings to the processor"
        )
    given = [key for key in keys if item.get(key) is not None]
    if len(given) > 1:
        raise ValueError(f"an item of type {kind!r} has both {kind!r} and 'path'; give one")
    if not given:
        return None
    clip = item[given[0]]
    return [clip] if is_picture(clip) else clip  # a list of pictures is one clip, and two items are two


def with_clips(read: list[Conversation], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the processor's call, with the clips that conversations hold.

    Raises:
        ValueError: if a clip is missing, given twice, or nobody would get it.
    """
    given = dict(kwargs.get("processor_kwargs") or {})
    clips = [clip for each in read for clip in each.clips]
    if not kwargs.get("return_dict"):
        raise ValueError("messages hold clips, and tokens alone are asked for, which leave them out; return_dict=True")
    if given.get("world_frames") is not None or kwargs.get("world_frames") is not None:
        if any(clip is not None for clip in clips):
            raise ValueError("messages hold clips, and world_frames are given too; leave one of them out")
        return given
    if any(clip is None for clip in clips):
        raise ValueError('an item of type "world" or "video" holds no clip; write "path": FILE, or "world": FRAMES')
    return {**given, "world_frames": [list(each.clips) or None for each in read]}
