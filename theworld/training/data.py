"""Samples from a JSONL file or a `datasets` folder, read one at a time, in a seeded order.

In: lines of {"messages": [{"role", "content"}, ...]}, content being a text or a list of {"type": "text" | "image" |
"world" | "video", ...}. Out: `Sample`s. One that is missing or broken is named and counted, and the next one stands in
for it.
"""

# F frames

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset, Sampler

from theworld.checkpoints.bounded_files import open_regular, parse_json
from theworld.checkpoints.error_text import counted, one_line, summary
from theworld.clips.messages import CLIP_KINDS
from theworld.training.config import ConfigError, DataConfig, FailedError
from theworld.world_tokens import START_OF_WORLD

log = logging.getLogger("theworld.training")
_ROLES = ("system", "user", "assistant")
_MARKERS = (START_OF_WORLD, "<start_of_turn>", "<end_of_turn>", "<start_of_image>")  # the template writes these


class TooManyBrokenError(FailedError):
    """More samples were broken than the config allows."""


class BrokenSampleError(ValueError):
    """Why a sample cannot be used."""


# What json and the readers of pictures and clips raise for a file that is missing, cut, or not what its name says.
_UNREADABLE = (OSError, ValueError, EOFError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One conversation.

    Args:
        messages: roles and content, for a chat template; a clip is a marker in the text.
        images: in the order of their places.
        clips: (3, F, height, width), float32, in [-1, 1].
    """

    messages: tuple[dict[str, Any], ...]
    images: tuple[Image.Image, ...]
    clips: tuple[torch.Tensor, ...]


class JsonLines(Sequence[Any]):
    """The lines of a file, found by their offsets: the file is never held.

    Raises:
        ValueError: if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        offsets, position = [], 0
        with open_regular(path) as (lines, _):
            for line in lines:
                if line.strip():
                    offsets.append(position)
                position += len(line)
        self._offsets = np.array(offsets, np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: Any) -> Any:
        with open_regular(self.path) as (lines, _):
            lines.seek(int(self._offsets[index]))
            line = lines.readline()
        try:
            return parse_json(line.decode("utf-8-sig"))
        except ValueError as error:
            raise BrokenSampleError(f"{summary(error)}; a conversation is one line of JSON") from error


def open_rows(path: Path) -> Sequence[Any]:
    """Rows of a JSONL file, or of a folder that `datasets` saved, by number.

    Raises:
        ConfigError: if there are none.
    """
    if path.is_dir():
        if importlib.util.find_spec("datasets") is None:
            raise ConfigError(f"{path}: a folder needs the package datasets; install it, or write JSONL")
        from datasets import load_from_disk  # pyrefly: ignore[missing-import]

        try:
            rows = load_from_disk(str(path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {summary(error)}; data.path names it") from error
        if isinstance(rows, Mapping):
            raise ConfigError(f"{path}: holds splits; let data.path name the folder of one: {', '.join(rows)}")
    else:
        try:
            rows = JsonLines(path)
        except ValueError as error:
            raise ConfigError(f"data.path: {error}") from error
    if not len(rows):
        raise ConfigError(f"{path}: holds no sample; data.path names it")
    return rows


class Samples(Dataset):
    """Samples by number.

    Args:
        to_frames: a clip in any form that the processor takes -> (3, F, height, width).

    Raises:
        ConfigError: if there is nothing to read.
    """

    def __init__(self, config: DataConfig, to_frames: Callable[[Any], torch.Tensor]) -> None:
        self._path = Path(config.path)
        self._rows = open_rows(self._path)
        self._files = Path(config.files) if config.files is not None else self._path.parent
        self._to_frames, self._limit = to_frames, config.max_broken_samples
        self.broken: dict[int, str] = {}
        self._unsaid: list[str] = []  # of these, until another one stands in

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample; where it is broken, the next whole one.

        Raises:
            TooManyBrokenError: when one more is broken than the limit allows.
        """
        for step in range(len(self)):
            number = (index + step) % len(self)
            try:
                sample = self._read(number)
            except _UNREADABLE as error:
                self._note(number, summary(error))
                continue
            while self._unsaid:  # where none is whole, nothing is skipped: the error alone is said
                log.warning("skipped %s", self._unsaid.pop(0))
            return sample
        raise TooManyBrokenError(f"no sample is whole; the first: {next(iter(self.broken.values()))}")

    def _note(self, number: int, reason: str) -> None:
        if number in self.broken:
            return
        self.broken[number] = f"{one_line(self._path)} sample {number}: {reason}"
        if len(self.broken) > self._limit:
            raise TooManyBrokenError(
                f"{counted(len(self.broken), 'broken sample')}, and data.max_broken_samples is {self._limit}; "
                f"the last: {self.broken[number]}"
            )
        self._unsaid.append(f"{self.broken[number]} ({len(self.broken)} of at most {self._limit})")

    def _read(self, number: int) -> Sample:
        row = self._rows[number]
        if not isinstance(row, Mapping) or not isinstance(row.get("messages"), (list, tuple)):
            raise BrokenSampleError('has no list "messages"')
        images: list[Image.Image] = []
        clips: list[torch.Tensor] = []
        messages = []
        for message in row["messages"]:
            if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
                raise BrokenSampleError(f"a message's role is none of {', '.join(_ROLES)}")
            content = message.get("content")
            items = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if not isinstance(items, (list, tuple)):
                raise BrokenSampleError("a message's content is neither a text nor a list")
            messages.append({"role": message["role"], "content": [self._item(item, images, clips) for item in items]})
        _check_turns(messages)
        return Sample(messages=tuple(messages), images=tuple(images), clips=tuple(clips))

    def _item(self, item: Any, images: list[Image.Image], clips: list[torch.Tensor]) -> dict[str, str]:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if kind == "text" and isinstance(item.get("text"), str):
            for marker in _MARKERS:
                if marker in item["text"]:
                    raise BrokenSampleError(f"a text holds {marker}; write images and clips as items of their own")
            return {"type": "text", "text": item["text"]}
        if kind not in ("image", *CLIP_KINDS) or not isinstance(item.get("path"), str):
            raise BrokenSampleError(f"an item is no text, image, world or video with a path: {item!r:.80}")
        path = self._files / item["path"]
        if kind == "image":
            images.append(_read_picture(path))
            return {"type": "image"}
        clips.append(self._to_frames(path))
        return {"type": "text", "text": START_OF_WORLD}


def _check_turns(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an order of roles that a chat template has no text for, and a conversation that teaches nothing."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    for turn, role in enumerate(turns):
        expected = ("user", "assistant")[turn % 2]
        if role != expected:
            number = turn + len(roles) - len(turns)
            raise BrokenSampleError(
                f"message {number} is the {role}'s, and the {expected}'s would come next; write the system's first, "
                "if there is one, and then user and assistant in turn"
            )
    if "assistant" not in roles:
        raise BrokenSampleError("no message is the assistant's, so there is nothing to learn")
    answers = [item for message in messages if message["role"] == "assistant" for item in message["content"]]
    if not any(item["type"] != "text" or item["text"].strip() for item in answers):
        raise BrokenSampleError("every message of the assistant's is empty, so there is nothing to learn")


def _read_picture(path: Path) -> Image.Image:
    """Read a picture whole.

    Raises:
        BrokenSampleError, ValueError: if it is no regular file, or none that Pillow reads.
    """
    with open_regular(path) as (file, _):
        try:
            with Image.open(file) as image:
                return image.convert("RGB")
        except UnidentifiedImageError as error:
            raise BrokenSampleError(f"{path}: cannot identify image file; give a picture that Pillow reads") from error
        except Exception as error:  # Pillow's readers of formats raise whatever their parsing came upon
            raise BrokenSampleError(f"{path}: no picture that can be read ({summary(error)})") from error


class SeededOrder(Sampler[int]):
    """Every number once an epoch, in an order that only seed and epoch decide.

    Args:
        length: how many numbers there are.
        group_size: so many numbers that follow each other stay together, in their order; the last may be fewer.
    """

    def __init__(self, length: int, seed: int, *, group_size: int = 1) -> None:
        self._length, self._seed, self._group_size, self.epoch = length, seed, group_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        size = self._group_size
        for group in torch.randperm(-(-self._length // size), generator=generator).tolist():
            yield from range(group * size, min((group + 1) * size, self._length))
