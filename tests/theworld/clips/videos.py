"""Small videos that the tests make themselves, with PyAV: frame i is a grey of its own."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STEP = 4  # of grey, from one frame to the next


def write_video(
    path: Path,
    *,
    num_frames: int = 5,
    fps: int = 16,
    size: tuple[int, int] = (48, 64),
    codec: str = "mpeg4",
    pts: Sequence[int] | None = None,
    rotation: int = 0,
    audio: bool = False,
) -> Path:
    """Write frames of one grey each, lossless with the codec "ffv1"; the left half is black.

    Args:
        size: height and width.
        pts: when each frame is shown, in 1 / fps seconds; evenly by default.
    """
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.time_base = Fraction(1, fps)
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            _add_silence(container)
        for i in range(num_frames):
            pixels = np.full((height, width, 3), grey_of(i), np.uint8)
            pixels[:, : width // 2] = 0
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (i if pts is None else pts[i]), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def grey_of(frame: int) -> int:
    """The grey of a frame's right half."""
    return 100 + STEP * frame


def write_sound(path: Path) -> Path:
    """Write a file that holds sound alone."""
    with av.open(str(path), "w") as container:
        _add_silence(container)
    return path


def _add_silence(container: av.container.OutputContainer) -> None:
    stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
    silence.sample_rate, silence.pts = 8000, 0
    container.mux(stream.encode(silence))
    container.mux(stream.encode())
