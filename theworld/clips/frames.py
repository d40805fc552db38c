"""A clip in any form that people have to the frames that the model takes, and the note of what was done.

In: a PIL image, an array or tensor (uint8 or float, channels first or last), a list of such pictures, or a file's path
or bytes. Out: frames (3, F, height, width), float32, in [-1, 1], F = 1 + 4k.
"""

# F frames, H W pixels, C 3 channels

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from theworld.clips.files import name_of, read_array
from theworld.clips.rules import MAX_VIDEO_FRAMES, ClipNote, ClipRules, VideoNote
from theworld.clips.video import Video, on_screen, open_video

_READY_RANGE = (-1.0, 1.0)
_PICTURE_DIMENSIONS = 3
# Where the three channels are looked for, in this order: the first axis of three is taken.
_FLOAT_AXES = (0, 1, 3)  # (3, F, H, W), as the model takes them; (F, 3, H, W); (F, H, W, 3)
_UINT8_AXES = (3, 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedClip:
    """A clip made ready.

    Args:
        frames: (3, F, height, width), float32, in [-1, 1]; F = 1 + 4k.
        note: what was done to it.
    """

    frames: torch.Tensor
    note: ClipNote


@dataclass(slots=True, kw_only=True)
class _Taken:
    """Frames that were given, after sampling: each (H, W, 3), uint8, or float in [-1, 1]."""

    frames: list[np.ndarray]
    size_given: tuple[int, int]
    resize: str | None
    source: str
    video: VideoNote | None = None


def is_picture(value: Any) -> bool:
    """Whether a value is one picture, so that a list of them is one clip."""
    is_array = isinstance(value, (np.ndarray, torch.Tensor))
    return isinstance(value, Image.Image) or (is_array and value.ndim <= _PICTURE_DIMENSIONS)


def prepare_clip(clip: Any, rules: ClipRules) -> PreparedClip:
    """Make one clip ready.

    Args:
        clip: a PIL image; a list of pictures, each a PIL image or an array; an array or tensor, of one picture or of
            many, uint8 in [0, 255] or float in `rules.value_range`; the path of a video, `.npy` or `.npz` file, or such
            a file's bytes.

    Raises:
        ValueError: for anything else, no frames, values out of range, or more steps than `rules.max_world_steps`.
    """
    if isinstance(clip, (str, Path, bytes)):
        taken = _from_file(Path(clip) if isinstance(clip, str) else clip, rules)
    elif isinstance(clip, Image.Image):
        taken = _from_pictures([clip], rules)
    elif isinstance(clip, (list, tuple)):
        taken = _from_list(clip, rules)
    else:
        taken = _from_array(clip, rules)
    return _finish(taken, rules)


def _finish(taken: _Taken, rules: ClipRules) -> PreparedClip:
    """Bring what was taken to 1 + 4k frames, and to one tensor."""
    num_given = len(taken.frames)
    rules.check_length(num_given)
    fitting = rules.fitting_length(num_given)
    frames = taken.frames[:fitting]
    pixels_FHWC = np.stack(frames)
    frames_CFHW = torch.from_numpy(pixels_FHWC).permute(3, 0, 1, 2).float()
    if pixels_FHWC.dtype == np.uint8:
        frames_CFHW = frames_CFHW / 127.5 - 1.0
    if fitting > num_given:
        last = frames_CFHW[:, -1:].expand(-1, fitting - num_given, -1, -1)
        frames_CFHW = torch.cat([frames_CFHW, last], dim=1)
    height, width = frames_CFHW.shape[2:]
    note = ClipNote(
        source=taken.source,
        video=taken.video,
        num_given=num_given,
        num_repeated=max(fitting - num_given, 0),
        num_dropped=max(num_given - fitting, 0),
        size_given=taken.size_given,
        size=(height, width),
        resize=taken.resize,
        num_frames=fitting,
    )
    return PreparedClip(frames=frames_CFHW.contiguous(), note=note)


def _from_file(source: Path | bytes, rules: ClipRules) -> _Taken:
    array = read_array(source)
    name = name_of(source)
    try:
        if array is not None:
            return _from_array(array, rules)
        with open_video(source) as video:
            return _from_video(video, rules)
    except ValueError as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: {error}") from error


def _from_video(video: Video, rules: ClipRules) -> _Taken:
    num_read, start, end = 0, 0.0, 0.0
    size: tuple[int, int] | None = None

    def timed() -> Iterator[tuple[float, float | None, np.ndarray]]:
        nonlocal num_read, start, end, size
        for frame in video.frames:
            start = frame.seconds if not num_read else start
            end = frame.seconds + (frame.duration_seconds or 0.0)
            size = size or frame.pixels.shape[:2]
            num_read += 1
            yield frame.seconds, frame.duration_seconds, frame.pixels

    shown: Iterable[np.ndarray]
    shown = on_screen(timed(), rules.fps) if rules.fps is not None else (pixels for _, _, pixels in timed())
    most = rules.max_frames or MAX_VIDEO_FRAMES
    frames: list[np.ndarray] = []
    before = None
    for pixels in shown:
        # Made small at once: a video is never held in its own size.
        frames.append(frames[-1] if pixels is before else _resized(pixels, rules))
        before = pixels
        if rules.fitting_length(len(frames)) > most:
            seconds = most / (rules.fps or video.source_fps or 1)
            raise ValueError(
                f"holds more than {most} frames ({seconds:.1f} s), and max_world_steps is {rules.max_world_steps}; cut "
                "it, give a lower world_fps, or a larger max_world_steps to model and processor"
            )
    if size is None:
        raise ValueError("holds no frames; give a video with at least one")
    note = VideoNote(
        reader=video.reader,
        source_fps=video.source_fps,
        fps=rules.fps,
        seconds=end - start,
        num_frames=num_read,
    )
    return _Taken(frames=frames, size_given=size, resize=_resize_of(size, rules), source="video", video=note)


def _from_pictures(pictures: list[Image.Image], rules: ClipRules) -> _Taken:
    if not pictures:
        raise ValueError("a clip holds no frames; give at least one")
    rules.check_length(len(pictures))
    first = pictures[0]
    size = (first.height, first.width)
    frames = [_resized(np.asarray(picture.convert("RGB")), rules) for picture in pictures]
    is_kept = all(picture.size == (rules.frame_size, rules.frame_size) for picture in pictures)
    resize = None if is_kept else rules.resize
    return _Taken(frames=frames, size_given=size, resize=resize, source="pictures")


def _from_list(clip: Any, rules: ClipRules) -> _Taken:
    pictures = list(clip)
    if not pictures:
        raise ValueError("a clip holds no frames; give at least one")
    if all(isinstance(picture, Image.Image) for picture in pictures):
        return _from_pictures(pictures, rules)
    if not all(isinstance(picture, (np.ndarray, torch.Tensor)) and is_picture(picture) for picture in pictures):
        kinds = ", ".join(sorted({type(picture).__name__ for picture in pictures})[:4])
        raise ValueError(f"a clip's list holds {kinds}; give PIL images alone, or arrays of one picture each")
    arrays = [_to_numpy(picture) for picture in pictures]
    if len({(array.shape, str(array.dtype)) for array in arrays}) > 1:
        shapes = sorted({str(array.shape) for array in arrays})[:3]
        raise ValueError(f"a clip's pictures must have one shape and dtype, got {', '.join(shapes)}; make them alike")
    return _from_array(np.stack(arrays) if arrays[0].ndim == _PICTURE_DIMENSIONS else arrays[0], rules, is_list=True)


def _from_array(clip: Any, rules: ClipRules, *, is_list: bool = False) -> _Taken:
    frames_FHWC = _channels_last(_to_numpy(clip), is_list=is_list)
    if not frames_FHWC.size:
        raise ValueError(f"a clip of shape {tuple(clip.shape) if not is_list else frames_FHWC.shape} holds no frames")
    rules.check_length(len(frames_FHWC))
    size = frames_FHWC.shape[1], frames_FHWC.shape[2]
    is_ready = False
    if frames_FHWC.dtype != np.uint8:
        frames_FHWC = _to_ready_range(frames_FHWC, rules.value_range)
        in_model_range = tuple(rules.value_range) == _READY_RANGE
        is_ready = in_model_range and not any(side % rules.spatial_compression for side in size)
    frames = list(frames_FHWC) if is_ready else [_resized(frame, rules) for frame in frames_FHWC]
    resize = None if is_ready else _resize_of(size, rules)
    return _Taken(frames=frames, size_given=size, resize=resize, source="array")


def _to_numpy(clip: Any) -> np.ndarray:
    if isinstance(clip, torch.Tensor):
        clip = clip.detach().cpu()
        return (clip.float() if clip.dtype in (torch.bfloat16, torch.float16) else clip).numpy()
    if not isinstance(clip, np.ndarray):
        raise ValueError(
            f"a clip is a {type(clip).__name__}; give a PIL image, an array, a tensor, a list of pictures, or a file"
        )
    return clip


def _channels_last(array: np.ndarray, *, is_list: bool) -> np.ndarray:
    """(F, H, W, 3) of any layout.

    Raises:
        ValueError: for another number of axes, or none of three channels.
    """
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"world_frames must be uint8, or floating point in [-1, 1], got {array.dtype}; "
            "divide by 127.5 and subtract 1, or cast to uint8"
        )
    is_uint8 = array.dtype == np.uint8
    axes = _UINT8_AXES if is_uint8 else _FLOAT_AXES
    if array.ndim == _PICTURE_DIMENSIONS:  # of one picture, channels are the first axis or the last
        axes = (3, 1) if is_uint8 else (1, 3)
        array = array[None]
    elif is_list:
        axes = tuple(axis for axis in axes if axis)
    if array.ndim == 4:
        for axis in axes:
            if array.shape[axis] == 3:
                return np.moveaxis(array, axis, -1)
    raise ValueError(
        f"world_frames must have shape (3, frames, height, width), (frames, 3, height, width) or "
        f"(frames, height, width, 3), got {array.shape}"
    )


def _to_ready_range(frames: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Float frames in [-1, 1], float32.

    Raises:
        ValueError: for values outside of `value_range`.
    """
    black, white = value_range
    low, high = float(frames.min()), float(frames.max())
    if math.isnan(low):
        raise ValueError(f"world_frames must be in [{black:g}, {white:g}], and some of them are no numbers (NaN)")
    if not (low >= black and high <= white):
        fix = "divide by 127.5 and subtract 1" if high > 2 else "clamp or rescale them"
        raise ValueError(
            f"world_frames must be in [{black:g}, {white:g}], got [{low:.1f}, {high:.1f}]; {fix}, or give "
            "world_value_range"
        )
    if tuple(value_range) == _READY_RANGE:
        return frames.astype(np.float32, copy=False)
    return ((frames.astype(np.float64) - black) / (white - black) * 2 - 1).astype(np.float32)


def _resize_of(size: tuple[int, int], rules: ClipRules) -> str | None:
    return None if size == (rules.frame_size, rules.frame_size) else rules.resize


def _resized(pixels_HWC: np.ndarray, rules: ClipRules) -> np.ndarray:
    """One frame (H, W, 3), uint8 or float in [-1, 1], at (frame_size, frame_size), bicubic."""
    if pixels_HWC.shape[:2] == (rules.frame_size, rules.frame_size):
        return pixels_HWC
    if pixels_HWC.dtype == np.uint8:
        return np.asarray(_fit(Image.fromarray(np.ascontiguousarray(pixels_HWC)), rules, black=(0, 0, 0)))
    planes = [Image.fromarray(np.ascontiguousarray(pixels_HWC[..., channel])) for channel in range(3)]
    fitted = np.stack([np.asarray(_fit(plane, rules, black=-1.0)) for plane in planes], axis=-1)
    return fitted.clip(-1.0, 1.0)  # a cubic goes beyond the values that it joins


def _fit(picture: Image.Image, rules: ClipRules, *, black: Any) -> Image.Image:
    size, bicubic = (rules.frame_size, rules.frame_size), Image.Resampling.BICUBIC
    if rules.resize == "crop":
        return ImageOps.fit(picture, size, bicubic)
    if rules.resize == "pad":
        return ImageOps.pad(picture, size, bicubic, black)
    return picture.resize(size, bicubic)
