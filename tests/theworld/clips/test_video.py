"""Videos: what is on screen at a rate, each reader, and what cannot be read in one line."""

import builtins
import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.theworld.clips.videos import grey_of, write_sound, write_video
from theworld.clips import video as video_module
from theworld.clips.containers import missing_length
from theworld.clips.frames import PreparedClip, prepare_clip
from theworld.clips.rules import ClipRules
from theworld.clips.video import on_screen

RULES = ClipRules(frame_size=32)


def greys(prepared: PreparedClip) -> list[int]:
    """The grey of each frame, at the middle of its right edge."""
    return [round(float(value + 1) * 127.5) for value in prepared.frames[0, :, 16, -1]]


@pytest.mark.parametrize(
    ("times", "fps", "shown"),
    [
        ([0, 0.1, 0.2, 0.3], 10, "abcd"),
        ([5, 5.1, 5.2, 5.3], 10, "abcd"),  # a first frame that is late
        ([0, 0.1, 0.2, 0.3], 5, "ac"),
        ([0, 0.1, 0.2, 0.3], 20, "aabbccdd"),
        ([0, 0.3, 0.35], 10, "aaabc"),  # frames of changing length
        ([0, 0.033, 0.067, 0.1], 30, "abcddd"),  # times rounded to milliseconds
        ([0], 2, "a"),  # shorter than a tick
        ([], 2, ""),
    ],
)
def test_at_each_tick_the_frame_on_screen_is_taken(times: list[float], fps: float, shown: str) -> None:
    timed = [(seconds, 0.1, letter) for seconds, letter in zip(times, "abcd", strict=False)]
    assert "".join(on_screen(timed, fps)) == shown


def test_a_video_is_sampled_and_the_note_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", num_frames=10, fps=16, codec="ffv1", audio=True)
    whole, half = prepare_clip(path, RULES), prepare_clip(str(path), ClipRules(frame_size=32, fps=8))
    assert greys(whole) == [grey_of(i) for i in (*range(10), 9, 9, 9)]
    assert greys(half) == [grey_of(i) for i in (0, 2, 4, 6, 8)]
    assert whole.frames.shape == (3, 13, 32, 32)
    assert half.note.video is not None
    assert (half.note.video.num_frames, half.note.video.source_fps, half.note.video.fps) == (10, 16, 8)
    assert half.note.video.seconds == pytest.approx(10 / 16, abs=2e-3)
    assert str(half.note) == (
        f"video: 10 frames in {half.note.video.seconds:.2f} s (read by PyAV), sampled at 8 a second, "
        "64 x 48 to 32 x 32 by crop, 5 frames: 2 latent steps"
    )
    every = prepare_clip(path, ClipRules(frame_size=32, fps=None, length="drop"))
    assert greys(every) == [grey_of(i) for i in range(9)]
    assert "every one taken" in str(every.note)
    assert every.note.num_dropped == 1


def test_bytes_are_read_as_their_file_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    assert torch.equal(prepare_clip(path.read_bytes(), RULES).frames, prepare_clip(path, RULES).frames)


def test_frames_of_changing_length_keep_their_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", num_frames=3, fps=10, codec="ffv1", pts=[0, 4, 5])
    assert greys(prepare_clip(path, ClipRules(frame_size=32, fps=10)))[:6] == [grey_of(i) for i in (0, 0, 0, 0, 1, 2)]


def test_a_phones_video_is_turned(tmp_path: Path) -> None:
    """Turned against the clock, the right half comes to lie on top."""
    prepared = prepare_clip(write_video(tmp_path / "clip.mp4", rotation=90), RULES)
    assert prepared.note.size_given == (64, 48)
    top, bottom = prepared.frames[0, 0, 2].mean(), prepared.frames[0, 0, -3].mean()
    assert top > bottom + 0.5


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


CANNOT_BE_READ = {
    "broken.mp4": (lambda path: path.write_bytes(b"hello world" * 99), "not a video that can be read (Invalid data"),
    "cut.mp4": (lambda path: cut(write_video(path, num_frames=30), 0.5), "cut off: holds "),
    "short.mkv": (lambda path: cut(write_video(path, codec="ffv1", num_frames=20), 0.5), "cut off: holds "),
    "sound.mkv": (lambda path: cut(write_video(path, codec="ffv1", num_frames=20, audio=True), 0.5), "cut off: holds "),
    "almost.webm": (lambda path: cut(write_video(path, codec="libvpx-vp9"), 0.99), "cut off: holds "),
    "text.mp4": (lambda path: path.write_text("a text\n" * 40), "not a video that can be read"),
    "pickle.npy": (lambda path: path.write_bytes(pickle.dumps([1, 2])), "not a video that can be read"),
    "empty.mp4": (lambda path: path.touch(), "empty; give a clip's file"),
    "sound.wav": (write_sound, "holds no video (audio alone); give a file with pictures"),
    "folder": (lambda path: path.mkdir(), "not a regular file"),
    "none.mp4": (lambda path: path, "missing; check the path"),
    "list.m3u8": (
        lambda path: path.write_text(f"#EXTM3U\n#EXTINF:1,\n{write_video(path.with_suffix('.mp4'))}\n#EXT-X-ENDLIST\n"),
        "not a video that can be read",
    ),
}


@pytest.mark.parametrize("name", CANNOT_BE_READ)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    make, message = CANNOT_BE_READ[name]
    make(tmp_path / name)
    with pytest.raises(ValueError, match=r".") as caught:
        prepare_clip(tmp_path / name, RULES)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_video_without_a_frame_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4")
    monkeypatch.setattr(video_module, "_open_av", lambda *_: video_module.Video(
        reader="PyAV", source_fps=None, frames=iter(()),
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r"clip.mp4: holds no frames; give a video with at least one"):
        prepare_clip(path, RULES)


@pytest.mark.parametrize("length", ["pad", "drop"])
def test_a_longer_video_than_there_are_steps_names_the_setting(tmp_path: Path, length: str) -> None:
    path = write_video(tmp_path / "clip.mp4", num_frames=30)
    most = ClipRules(frame_size=32, max_world_steps=8, length=length)
    if length == "drop":
        assert prepare_clip(path, most).frames.shape[1] == 29
        most = ClipRules(frame_size=32, max_world_steps=7, length=length)
    with pytest.raises(
        ValueError, match=r"clip.mp4: holds more than (29|25) frames \(1\.\d s\), and max_world_steps is"
    ):
        prepare_clip(path, most)


def test_a_video_is_not_read_to_its_end_where_it_is_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    endless = video_module.Video(reader="PyAV", source_fps=16, frames=(
        video_module.TimedFrame(pixels=np.zeros((4, 4, 3), np.uint8), seconds=i / 16, duration_seconds=1 / 16)
        for i in iter(int, 1)
    ))  # fmt: skip
    monkeypatch.setattr(video_module, "_open_av", lambda *_: endless)
    with pytest.raises(ValueError, match="holds more than 13 frames"):
        prepare_clip(path, ClipRules(frame_size=32, max_world_steps=4, fps=None))


class StandIn:
    """What `torchcodec.decoders.VideoDecoder` offers of what is used here, on PyAV."""

    def __init__(self, source: Any, *, dimension_order: str) -> None:
        assert dimension_order == "NHWC"
        with av.open(source) as container:
            frames = list(container.decode(video=0))
            self.metadata = types.SimpleNamespace(average_fps=float(container.streams.video[0].average_rate))
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def get_frame_at(self, index: int) -> Any:
        frame = self._frames[index]
        pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
        return types.SimpleNamespace(data=pixels, pts_seconds=frame.time, duration_seconds=1 / 16)


def test_torchcodec_goes_first_where_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", num_frames=9)
    by_av = prepare_clip(path, RULES)
    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", types.SimpleNamespace(VideoDecoder=StandIn))
    prepared = prepare_clip(path, RULES)
    assert prepared.note.video is not None
    assert prepared.note.video.reader == "torchcodec"
    assert torch.equal(prepared.frames, by_av.frames)
    monkeypatch.setattr(StandIn, "get_frame_at", lambda self, index: _raise(RuntimeError("Could not\ndecode")))
    with pytest.raises(ValueError, match=r"clip.mp4: not a video that can be read \(Could not decode\)"):
        prepare_clip(path, RULES)


def _raise(error: Exception) -> None:
    raise error


def test_without_a_reader_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in ("av", "torchcodec"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"clip.mp4: reading a video needs .* pip install 'theworld\[video\]'"):
        prepare_clip(path, RULES)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.webm"])
def test_a_whole_file_is_not_cut_off_and_any_shorter_one_is(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "mpeg4"
    data = write_video(tmp_path / name, codec=codec, audio=name == "clip.mkv").read_bytes()
    assert missing_length(io.BytesIO(data)) is None
    assert missing_length(io.BytesIO(data + b"more")) is None
    for left in (len(data) - 1, len(data) // 2, 64):
        found = missing_length(io.BytesIO(data[:left]))
        assert found is not None, left
        assert found[0] == left < found[1] <= len(data)


EBML = b"\x1a\x45\xdf\xa3"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        EBML,
        EBML + b"\x00",
        EBML + b"\x80\x18\x53\x80\x67\x01" + b"\xff" * 7,
        b"\0\0\0\4ftypisom",
        b"\0\0\0\0mdatrest",
        b"RIFF\xff\xff\xff\xffAVI ",
    ],
)
def test_a_file_that_does_not_say_how_long_it_is_is_not_called_cut_off(data: bytes) -> None:
    assert missing_length(io.BytesIO(data)) is None


def test_torchcodecs_errors_are_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchcodec 0.12 words them."""
    path = write_video(tmp_path / "clip.mp4")

    def refuse(error: Exception) -> str:
        def decoder(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(video_module, "_torchcodec", lambda: decoder)
        with pytest.raises(ValueError, match=r".") as caught:
            prepare_clip(path, RULES)
        return str(caught.value)

    assert refuse(ValueError("The best video stream is unknown.\nThis should never happen.")) == (
        f"{path}: holds no video; give a file with pictures"
    )
    assert refuse(
        RuntimeError("SingleStreamDecoder, /a/b/SingleStreamDecoder.cpp:80, Failed to open: Invalid data")
    ) == (f"{path}: not a video that can be read (Failed to open: Invalid data); make it anew")
