"""Clips of every form come to the same frames; rules of size, length and range; the note says what was done."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_clip
from theworld import TheWorldProcessor
from theworld.clips.frames import prepare_clip
from theworld.clips.rules import ClipRules

RULES = ClipRules(frame_size=32)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)  # F, H, W, 3
FRAMES = torch.from_numpy(PIXELS).permute(3, 0, 1, 2).float() / 127.5 - 1.0

FORMS = {
    "PIL images": [Image.fromarray(frame) for frame in PIXELS],
    "uint8, channels last": PIXELS,
    "uint8, channels second": PIXELS.transpose(0, 3, 1, 2),
    "uint8, channels first": PIXELS.transpose(3, 0, 1, 2),
    "a tensor, channels second": torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "a list of arrays": list(PIXELS),
    "a list of tensors, channels first": list(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)),
    "float, as the model takes it": FRAMES,
    "float, channels second": FRAMES.permute(1, 0, 2, 3),
    "float, channels last": FRAMES.permute(1, 2, 3, 0).numpy(),
    "float64": FRAMES.numpy().astype(np.float64),
    "a list of float pictures": list(FRAMES.permute(1, 0, 2, 3)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_to_the_same_frames(form: str) -> None:
    prepared = prepare_clip(FORMS[form], RULES)
    assert torch.equal(prepared.frames, FRAMES)
    assert prepared.frames.dtype == torch.float32
    note = prepared.note
    assert (note.num_given, note.num_repeated, note.num_dropped, note.resize, note.size) == (5, 0, 0, None, (32, 32))


@pytest.mark.parametrize("picture", [PIXELS[0], Image.fromarray(PIXELS[0]), FRAMES[:, 0], PIXELS[0].transpose(2, 0, 1)])
def test_one_picture_is_a_clip_of_one_frame(picture: Any) -> None:
    assert torch.equal(prepare_clip(picture, RULES).frames, FRAMES[:, :1])


@pytest.mark.parametrize("name", ["clip.npy", "clip.npz"])
def test_files_of_numbers_are_read(tmp_path: Path, name: str) -> None:
    (np.save if name.endswith("y") else np.savez)(tmp_path / name, PIXELS)
    assert torch.equal(prepare_clip(tmp_path / name, RULES).frames, FRAMES)
    assert torch.equal(prepare_clip((tmp_path / name).read_bytes(), RULES).frames, FRAMES)


@pytest.mark.parametrize(
    ("number", "length", "fitting", "note"),
    [
        (1, "pad", 1, (0, 0)),
        (2, "pad", 5, (3, 0)),
        (4, "pad", 5, (1, 0)),
        (4, "drop", 1, (0, 3)),
        (7, "drop", 5, (0, 2)),
        (9, "drop", 9, (0, 0)),
    ],
)
def test_any_number_of_frames_comes_to_one_and_fours(number: int, length: str, fitting: int, note: Any) -> None:
    clip = make_clip(number)
    prepared = prepare_clip(clip, ClipRules(frame_size=32, length=length))
    assert prepared.frames.shape[1] == fitting
    kept = min(number, fitting)
    assert torch.equal(prepared.frames[:, :kept], clip[:, :kept])
    assert (prepared.frames[:, kept:] == clip[:, -1:]).all()
    assert (prepared.note.num_repeated, prepared.note.num_dropped) == note


def picture_of_thirds() -> np.ndarray:
    """Twice as wide as high: black, white, black; white is the middle half."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 8:24] = 255
    return pixels


@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize(
    ("resize", "white"),
    [("crop", np.s_[:, :]), ("pad", np.s_[2:6, 2:6]), ("squash", np.s_[:, 2:6])],
)
def test_the_aspect_is_kept_cut_or_stretched_as_the_rule_says(kind: str, resize: str, white: Any) -> None:
    pixels = picture_of_thirds()
    rules = ClipRules(frame_size=8, resize=resize)
    if kind == "float":
        rules = ClipRules(frame_size=8, resize=resize, value_range=(0.0, 1.0))
    prepared = prepare_clip(pixels if kind == "uint8" else pixels.astype(np.float32) / 255, rules)
    expected = torch.full((8, 8), -1.0)
    expected[white] = 1.0
    assert prepared.frames.shape == (3, 1, 8, 8)
    # Where black meets white, bicubic mixes: the two sides of an edge are left out.
    flat = torch.nn.functional.avg_pool2d(expected[None], 3, 1, 1, count_include_pad=False)[0].abs() > 0.999
    assert flat.sum() > 12
    torch.testing.assert_close(prepared.frames[0, 0][flat], expected[flat], rtol=0, atol=0.15)
    assert prepared.note.resize == resize
    assert f"32 x 16 to 8 x 8 by {resize}" in str(prepared.note)


def test_bytes_and_floats_are_resized_alike() -> None:
    pixels = np.random.default_rng(1).integers(90, 160, (2, 20, 50, 3), np.uint8)  # no overshoot is cut off
    by_bytes = prepare_clip(pixels, RULES).frames
    by_floats = prepare_clip(pixels.astype(np.float32) / 255, ClipRules(frame_size=32, value_range=(0, 1))).frames
    torch.testing.assert_close(by_bytes, by_floats, rtol=0, atol=1.5 / 127.5)


def test_floats_that_the_model_could_take_keep_their_size() -> None:
    ready, other = make_clip(side=40), make_clip(side=36)
    assert torch.equal(prepare_clip(ready, RULES).frames, ready)
    assert prepare_clip(other, RULES).frames.shape[2:] == (32, 32)
    assert prepare_clip(ready, ClipRules(frame_size=32, spatial_compression=16)).frames.shape[2:] == (32, 32)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (make_clip() * 255, "must be in [-1, 1], got [-255.0"),
        (make_clip() * 1.5, "clamp or rescale them, or give world_value_range"),
        (make_clip() * float("nan"), "must be in [-1, 1], and some of them are no numbers (NaN)"),
        (torch.zeros(4, 1, 32, 32), "must have shape (3, frames, height, width)"),
        (np.zeros((32, 32), np.uint8), "got (32, 32)"),
        (np.zeros((2, 3, 1, 8, 8), np.uint8), "got (2, 3, 1, 8, 8)"),
        (np.zeros((5, 32, 32, 3), np.int64), "must be uint8, or floating point in [-1, 1], got int64"),
        (np.zeros((0, 32, 32, 3), np.uint8), "holds no frames"),
        ([], "a clip holds no frames"),
        ([PIXELS[0], PIXELS[0, :8]], "must have one shape and dtype, got (32, 32, 3), (8, 32, 3)"),
        ([PIXELS[0], "a.png"], "a clip's list holds ndarray, str; give PIL images alone"),
        ({"frames": PIXELS}, "a clip is a dict; give a PIL image"),
        (make_clip(9), "9 frames, which are 3 latent steps, and max_world_steps is 2; give at most 5 frames"),
        (PIXELS[[0] * 6], "6 frames, which are 3 latent steps"),
        ([Image.fromarray(PIXELS[0])] * 6, "6 frames, which are 3 latent steps"),
    ],
)
def test_what_is_no_clip_is_one_line(clip: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        prepare_clip(clip, ClipRules(frame_size=32, max_world_steps=2))
    assert str(caught.value).isprintable()


def test_the_processor_says_what_it_did(processor: TheWorldProcessor) -> None:
    clip = np.zeros((6, 20, 40, 3), np.uint8)
    features = processor(
        text=["<start_of_world> and <start_of_world>", "nothing"], world_frames=[[clip, PIXELS], None], padding=True,
        return_tensors="pt", world_length="drop", world_resize="pad",
    )  # fmt: skip
    (first, second), of_nothing = features.clip_notes
    assert str(first) == "array of 6 frames, 40 x 20 to 32 x 32 by pad, last 1 frames dropped, 5 frames: 2 latent steps"
    assert (second.resize, second.num_frames, of_nothing) == (None, 5, ())
    assert features["world_frames"].shape == (2, 2, 3, 5, 32, 32)
    assert processor(text="nothing").clip_notes == ()


def test_a_row_of_pictures_is_one_clip_and_nested_lists_are_several(processor: TheWorldProcessor) -> None:
    one = processor(text="<start_of_world>", world_frames=list(PIXELS), return_tensors="pt")
    assert torch.equal(one["world_frames"][0], FRAMES)
    two = processor(
        text="<start_of_world><start_of_world>", world_frames=[[PIXELS[0]], [PIXELS[1]]], return_tensors="pt"
    )
    assert torch.equal(two["world_frames"][0, :, :, 0].transpose(0, 1), FRAMES[:, :2])
