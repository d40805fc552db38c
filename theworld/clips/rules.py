"""The rules by which a clip is made ready, and the note that says what they did to it.

In: settings. Out: a `ClipRules`, checked; a `ClipNote` a clip.
"""

import math
from dataclasses import dataclass
from typing import Any

from theworld.checkpoints.error_text import shown_name
from theworld.checkpoints.vae_rules import TEMPORAL_COMPRESSION, num_latent_steps
from theworld.world_sizes import DEFAULT_FRAME_SIZE

RESIZES = ("crop", "pad", "squash")
LENGTHS = ("pad", "drop")
DEFAULT_FPS = 16.0  # of the videos that Cosmos-Predict2 was trained on
# Frames of a video that is read without a `max_world_steps`: 4 minutes at 16 a second.
MAX_VIDEO_FRAMES = 1 + TEMPORAL_COMPRESSION * 1023


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRules:
    """How a clip is made ready.

    Args:
        frame_size: height and width, in pixels, of what comes out.
        fps: frames a second that a video is sampled to: at each tick, the frame that is on screen. None takes every
            frame. Pictures and arrays have no times: every one is taken.
        resize: "crop" fills the square and cuts what is over, evenly at both ends; "pad" fits the whole picture in and
            leaves the rest black; "squash" stretches it.
        length: how 1 + 4k frames are come by: "pad" repeats the last frame, "drop" leaves the last ones out.
        value_range: what black and white are in float input. Float clips in [-1, 1] whose sides are multiples of
            `spatial_compression` are taken to be made ready already, and keep their size.
        max_world_steps: the most latent steps of a clip; None for no limit but that of a video's length.
        spatial_compression: pixels a latent cell, each way.

    Raises:
        ValueError: for a setting that is none.
    """

    frame_size: int = DEFAULT_FRAME_SIZE
    fps: float | None = DEFAULT_FPS
    resize: str = "crop"
    length: str = "pad"
    value_range: tuple[float, float] = (-1.0, 1.0)
    max_world_steps: int | None = None
    spatial_compression: int = 8

    def __post_init__(self) -> None:
        for name in ("frame_size", "spatial_compression"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, got {shown_name(repr(value))}")
        if self.frame_size % self.spatial_compression:
            raise ValueError(
                f"frame_size must be a positive multiple of {self.spatial_compression}, got {self.frame_size!r}"
            )
        if self.fps is not None and not (_is_number(self.fps) and 0 < self.fps <= 1000):
            raise ValueError(
                f"world_fps must be a number above 0, up to 1,000, or None; got {shown_name(repr(self.fps))}"
            )
        for name, known in (("resize", RESIZES), ("length", LENGTHS)):
            if getattr(self, name) not in known:
                shown = shown_name(repr(getattr(self, name)))
                raise ValueError(f"world_{name} must be one of {', '.join(known)}, got {shown}")
        bounds = self.value_range
        if len(bounds) != 2 or not all(map(_is_number, bounds)) or not bounds[0] < bounds[1]:
            raise ValueError(f"world_value_range must be two numbers, black and white, got {shown_name(repr(bounds))}")
        steps = self.max_world_steps
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ValueError(f"max_world_steps must be a positive whole number, got {shown_name(repr(steps))}")

    @property
    def max_frames(self) -> int | None:
        """The most frames of a clip; None for no limit."""
        return None if self.max_world_steps is None else 1 + TEMPORAL_COMPRESSION * (self.max_world_steps - 1)

    def fitting_length(self, num_frames: int) -> int:
        """The number 1 + 4k of frames that `num_frames` are padded or cut to."""
        over = (num_frames - 1) % TEMPORAL_COMPRESSION
        if not over:
            return num_frames
        return num_frames - over if self.length == "drop" else num_frames + TEMPORAL_COMPRESSION - over

    def check_length(self, num_frames: int) -> None:
        """Refuse more frames than `max_world_steps` has room for.

        Raises:
            ValueError: that names the setting, and what would do.
        """
        most = self.max_frames
        fitting = self.fitting_length(num_frames)
        if most is None or fitting <= most:
            return
        steps = num_latent_steps(fitting)
        raise ValueError(
            f"a clip has {num_frames} frames, which are {steps} latent steps, and max_world_steps is "
            f"{self.max_world_steps}; give at most {most} frames, or a larger max_world_steps to model and "
            "processor"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoNote:
    """What was found of a video file.

    Args:
        reader: what decoded it: "torchcodec" or "PyAV".
        source_fps: its own rate, frames a second; None where it is not known.
        fps: what it was sampled to; None where every frame was taken.
        seconds: its length.
        num_frames: frames that it holds.
    """

    reader: str
    source_fps: float | None
    fps: float | None
    seconds: float
    num_frames: int

    def __str__(self) -> str:
        """One line, for people."""
        sampled = "every one taken" if self.fps is None else f"sampled at {self.fps:g} a second"
        return f"{self.num_frames} frames in {self.seconds:.2f} s (read by {self.reader}), {sampled}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipNote:
    """What was done to one clip.

    Args:
        source: what was given: "video", "pictures" or "array".
        video: of a video file, what was found of it.
        num_given: frames that there were, of a video after sampling.
        num_repeated, num_dropped: of the last frame, or of the last ones, to come to 1 + 4k.
        size_given, size: height and width in pixels, before and after.
        resize: by which rule; None where the size was kept.
        num_frames: of what came out.
    """

    source: str
    video: VideoNote | None = None
    num_given: int
    num_repeated: int
    num_dropped: int
    size_given: tuple[int, int]
    size: tuple[int, int]
    resize: str | None
    num_frames: int

    @property
    def num_latent_steps(self) -> int:
        """Latent steps that the clip becomes."""
        return num_latent_steps(self.num_frames)

    def __str__(self) -> str:
        """One line, for people."""
        parts = [f"{self.source} of {self.num_given} frames" if self.video is None else f"video: {self.video}"]
        if self.resize is not None:
            (height, width), (new_height, new_width) = self.size_given, self.size
            parts.append(f"{width} x {height} to {new_width} x {new_height} by {self.resize}")
        if self.num_repeated:
            parts.append(f"last frame repeated {self.num_repeated} times")
        if self.num_dropped:
            parts.append(f"last {self.num_dropped} frames dropped")
        return ", ".join([*parts, f"{self.num_frames} frames: {self.num_latent_steps} latent steps"])
