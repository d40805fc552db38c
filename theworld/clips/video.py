"""Frames of a video file, one at a time, with the second that each is shown at; and those on screen at a rate.

In: a file's path, or its bytes. Out: uint8 frames (height, width, 3), by torchcodec where it works, else by PyAV. The
file is opened here and handed over open, so that no name in it or of it is taken for an address on a network.
"""

# H W pixels

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from theworld.checkpoints.error_text import one_line, summary
from theworld.clips.containers import missing_length
from theworld.clips.files import name_of, open_source

Frame = TypeVar("Frame")
_INSTALL = "reading a video needs PyAV or torchcodec: pip install 'theworld[video]', or give its frames as an array"
# Some containers round their times to milliseconds; a frame this much late is on time.
_ROUNDING_SECONDS = 1e-3
_WHERE_IN_SOURCE = re.compile(r"^.*\.cpp:\d+, ")  # torchcodec says first where its own code stands
_NO_PROTOCOL = {"protocol_whitelist": "none"}  # a playlist may not name files or addresses to read


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedFrame:
    """One decoded frame.

    Args:
        pixels: (H, W, 3), uint8.
        seconds: when it is first shown.
        duration_seconds: how long; None where the file does not say.
    """

    pixels: np.ndarray
    seconds: float
    duration_seconds: float | None


@dataclass(slots=True, kw_only=True)
class Video:
    """A video that is being read: `frames` can be gone through once.

    Args:
        reader: "torchcodec" or "PyAV".
        source_fps: its own rate, frames a second; None where it is not known.
    """

    reader: str
    source_fps: float | None
    frames: Iterator[TimedFrame]


@contextmanager
def open_video(source: Path | bytes) -> Iterator[Video]:
    """Open a video; errors while its frames are read are lines that name it.

    Raises:
        ValueError: if no reader is installed, or the file is no video that can be read, was cut off, or has no picture.
    """
    name = name_of(source)
    with open_source(source) as file:
        if (missing := missing_length(file)) is not None:
            there, said = missing
            raise ValueError(
                f"{name}: cut off: holds {there:,} of the {said:,} bytes that it says it has; copy it again"
            )
        if (decoder_class := _torchcodec()) is not None:
            with _named_errors(name, RuntimeError):
                yield _open_torchcodec(decoder_class, file, name)
        elif (av := _av()) is not None:
            with _named_errors(name, av.error.FFmpegError), av.open(file, options=_NO_PROTOCOL) as container:
                yield _open_av(container, name)
        else:
            raise ValueError(f"{name}: {_INSTALL}")


def _torchcodec() -> Any:
    """torchcodec's decoder, where it can be used: it finds FFmpeg's libraries when it is imported, or fails."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError):
        return None
    return VideoDecoder


def _av() -> Any:
    try:
        import av
    except ImportError:
        return None
    return av


@contextmanager
def _named_errors(name: str, broken: type[Exception]) -> Iterator[None]:
    """Turn what a decoder raises into one line."""
    try:
        yield
    except broken as error:
        reason = one_line(getattr(error, "strerror", None) or _WHERE_IN_SOURCE.sub("", summary(error)))
        raise ValueError(f"{name}: not a video that can be read ({reason}); make it anew") from error


def _open_torchcodec(decoder_class: Any, file: Any, name: str) -> Video:
    try:
        decoder = decoder_class(file, dimension_order="NHWC")
    except ValueError as error:  # no stream of pictures is the best one
        raise ValueError(f"{name}: holds no video; give a file with pictures") from error

    def frames() -> Iterator[TimedFrame]:
        for i in range(len(decoder)):
            frame = decoder.get_frame_at(i)
            yield TimedFrame(
                pixels=frame.data.numpy(),
                seconds=float(frame.pts_seconds),
                duration_seconds=float(frame.duration_seconds),
            )

    return Video(reader="torchcodec", source_fps=decoder.metadata.average_fps, frames=frames())


def _open_av(container: Any, name: str) -> Video:
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ValueError(f"{name}: holds no video ({kinds} alone); give a file with pictures")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate: Fraction | None = stream.average_rate or None
    frame_seconds = float(1 / rate) if rate else 0.0

    def frames() -> Iterator[TimedFrame]:
        for i, frame in enumerate(container.decode(stream)):
            seconds = frame.time if frame.time is not None else i * frame_seconds
            duration = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else frame_seconds
            pixels = frame.to_ndarray(format="rgb24")
            turns, rest = divmod(round(frame.rotation), 90)  # degrees, against the clock, as NumPy turns
            yield TimedFrame(
                pixels=pixels if rest else np.rot90(pixels, turns), seconds=seconds, duration_seconds=duration or None
            )

    return Video(reader="PyAV", source_fps=float(rate) if rate else None, frames=frames())


def on_screen(timed: Iterable[tuple[float, float | None, Frame]], fps: float) -> Iterator[Frame]:
    """What is on screen at each tick of a rate, from the first frame's beginning to the last one's end.

    Args:
        timed: seconds, duration in seconds or None, and the frame; in the order in which they are shown.
        fps: ticks a second.
    """
    tick, start, until, shown = 0, 0.0, 0.0, None
    for i, (seconds, duration, frame) in enumerate(timed):
        start = start if i else seconds
        if shown is not None:
            for _ in range(tick, _ticks_before(seconds - start, fps)):
                tick += 1
                yield shown
        shown, until = frame, seconds - start + (duration or 0.0)
    if shown is not None:
        for _ in range(tick, max(_ticks_before(until, fps), 1)):
            yield shown


def _ticks_before(seconds: float, fps: float) -> int:
    """How many ticks there are before a time."""
    return max(math.ceil((seconds - _ROUNDING_SECONDS) * fps), 0)
