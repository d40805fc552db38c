"""The processor: placeholders in input_ids, frames in [-1, 1], and errors that name the fix."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Gemma3Processor

from tests.conftest import FRAME_SIZE, make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint

PROMPT = "See <start_of_world> now"


def ids_of(processor: Any, features: Any, row: int = 0) -> str:
    return processor.tokenizer.decode(features["input_ids"][row])


def test_placeholders_stand_between_the_two_tokens(processor: TheWorldProcessor) -> None:
    features = processor(text=PROMPT, world_frames=make_clip(5), return_tensors="pt")
    text = ids_of(processor, features)
    assert "<start_of_world>" + "<unused0>" * 32 + "<end_of_world>" in text
    assert features["world_frames"].shape == (1, 3, 5, FRAME_SIZE, FRAME_SIZE)
    assert "world_num_frames" not in features
    assert set(features) <= set(processor.model_input_names)


def test_without_frames_it_is_gemmas_processor(processor: TheWorldProcessor, tiny: SyntheticCheckpoint) -> None:
    image = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3))
    text = "An image: <start_of_image> and words"
    ours = processor(text=text, images=[image], return_tensors="pt")
    theirs = Gemma3Processor.from_pretrained(tiny.gemma)(text=text, images=[image], return_tensors="pt")
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_pictures_are_scaled_to_minus_one_and_one(processor: TheWorldProcessor) -> None:
    black_and_white = np.zeros((1, 50, 70, 3), dtype=np.uint8)
    black_and_white[:, :, 35:] = 255
    for clip in (black_and_white, black_and_white[0], Image.fromarray(black_and_white[0])):
        frames = processor(text=PROMPT, world_frames=clip, return_tensors="pt")["world_frames"]
        assert frames.shape == (1, 3, 1, FRAME_SIZE, FRAME_SIZE)
        assert (frames.min(), frames.max()) == (-1.0, 1.0)


def test_frames_of_the_right_size_are_the_pictures_bits(processor: TheWorldProcessor) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    as_pictures = processor.to_frames([Image.fromarray(frame) for frame in clip])
    frames = processor.to_frames(clip)
    assert torch.equal(frames, as_pictures)
    clip[:] = 0
    assert torch.equal(frames, as_pictures), "frames share no memory with what they were made of"


def test_rows_of_different_lengths_are_padded(processor: TheWorldProcessor) -> None:
    clips = [make_clip(5), None, make_clip(1)]
    features = processor(
        text=[PROMPT, "no clip", f"longer {PROMPT}"], world_frames=clips, padding=True, return_tensors="pt"
    )
    assert features["world_frames"].shape[:3] == (3, 3, 5)
    assert features["world_num_frames"].tolist() == [5, 0, 1]
    assert [int((row == 6).sum()) for row in features["input_ids"]] == [32, 0, 16]
    assert features["attention_mask"][1, 0] == 0, "padding is on the left"


@pytest.mark.parametrize(
    ("text", "frames", "message"),
    [
        (PROMPT, make_clip() * 255, "must be in [-1, 1], got [-255.0"),
        (PROMPT, torch.zeros(4, 1, 32, 32), "must have shape (3, frames, height, width)"),
        ("no marker", make_clip(), "prompt 0 holds 0 <start_of_world> markers and has 1 clips"),
        (PROMPT * 2, make_clip(), "prompt 0 holds 2 <start_of_world> markers"),
        (PROMPT, None, "prompt 0 holds 1 <start_of_world> markers and has 0 clips"),
        ([PROMPT, PROMPT], [make_clip()], "1 clips and 2 prompts"),
        (f"{PROMPT} <unused0>", make_clip(), "stands for world tokens; remove it"),
        (None, make_clip(), "world_frames need a text"),
        ([PROMPT, PROMPT], [make_clip(), make_clip(side=64)], "must have one height and width"),
    ],
)
def test_wrong_input_is_a_value_error(processor: TheWorldProcessor, text: Any, frames: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        processor(text=text, world_frames=frames, padding=True, return_tensors="pt")


def test_truncated_placeholders_are_an_error(tiny: SyntheticCheckpoint) -> None:
    processor = TheWorldProcessor.from_pretrained(tiny.gemma)  # its own: a tokenizer remembers truncation
    with pytest.raises(ValueError, match="cut to 13 of its 32 world tokens"):
        processor(text="<start_of_world>", world_frames=make_clip(), truncation=True, max_length=15)


def test_round_trip(processor: TheWorldProcessor, tmp_path: Path, tiny: SyntheticCheckpoint) -> None:
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, TheWorldProcessor)
    assert loaded.frame_size == FRAME_SIZE
    assert len(loaded.tokenizer) == len(processor.tokenizer)
    ours, theirs = (p(text=PROMPT, world_frames=make_clip(), return_tensors="pt") for p in (loaded, processor))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_wrong_frame_size_is_a_value_error(tiny: SyntheticCheckpoint) -> None:
    with pytest.raises(ValueError, match="frame_size must be a positive multiple of 8, got 100"):
        TheWorldProcessor.from_pretrained(tiny.gemma, frame_size=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"world_fps": 0}, "world_fps must be a number above 0, up to 1,000, or None; got 0"),
        ({"world_fps": True}, "world_fps must be"),
        ({"world_resize": "stretch"}, "world_resize must be one of crop, pad, squash, got 'stretch'"),
        ({"world_length": "cut"}, "world_length must be one of pad, drop"),
        ({"world_value_range": (1, -1)}, "world_value_range must be two numbers, black and white"),
    ],
)
def test_a_setting_that_is_none_is_a_value_error(
    processor: TheWorldProcessor, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        processor(text=PROMPT, world_frames=make_clip(), **settings)


def test_what_a_model_decides_is_taken_from_it(tiny: SyntheticCheckpoint, shared_world: TheWorld) -> None:
    processor = TheWorldProcessor.from_pretrained(tiny.gemma, world_config=shared_world.world_config)
    assert (processor.frame_size, processor.max_world_steps, processor.spatial_compression) == (FRAME_SIZE, 4, 8)
    with pytest.raises(
        ValueError, match=r"17 frames, which are 5 latent steps, and max_world_steps is 4; give at most 13"
    ):
        processor(text=PROMPT, world_frames=make_clip(17))


def test_a_model_refuses_too_many_steps_before_it_encodes_them(
    shared_world: TheWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(shared_world.world_encoder), "forward", lambda *_: pytest.fail("the VAE was asked"))
    with pytest.raises(ValueError, match="5 latent time steps and max_world_steps is 4; give at most 13 frames"):
        shared_world.get_world_features(make_clip(17)[None])
