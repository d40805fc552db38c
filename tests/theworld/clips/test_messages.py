"""Clips in chat messages, with Gemma 3's template as it is published: it renders text and images, and nothing else."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import make_clip
from tests.theworld.clips.videos import write_video
from theworld import TheWorldProcessor

WORLD_TOKEN = 6
ASK = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}


def user(*items: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": i} if isinstance(i, str) else i for i in items]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def world(clip: Any) -> dict[str, Any]:
    return {"type": "world", "world": clip}


def test_the_template_itself_passes_over_clips(processor: TheWorldProcessor) -> None:
    """As the published one does: this is why items are rewritten before it sees them."""
    rendered = processor.tokenizer.apply_chat_template([user({"type": "world"}, "Next?")], tokenize=False)
    assert rendered == "<bos><start_of_turn>user\nNext?<end_of_turn>\n"


@pytest.mark.parametrize("kind", ["world", "video"])
def test_a_clip_is_placed(processor: TheWorldProcessor, kind: str) -> None:
    messages = [user("See", {"type": kind}, " What next? ")]
    before = copy.deepcopy(messages)
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert text == "<bos><start_of_turn>user\nSee<start_of_world>What next?<end_of_turn>\n<start_of_turn>model\n"
    assert messages == before


def test_several_turns_and_several_clips(processor: TheWorldProcessor) -> None:
    clips = [make_clip(seed=i) for i in range(3)]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be short."}]},
        user(world(clips[0]), "or", world(clips[1]), "?"),
        assistant("The first."),
        user("And", world(clips[2]), "?"),
    ]
    features = processor.apply_chat_template(messages, add_generation_prompt=True, **ASK)
    assert torch.equal(features["world_frames"][0], torch.stack(clips))
    assert len(features.clip_notes[0]) == 3
    text = processor.tokenizer.decode(features["input_ids"][0])
    shown = re.sub("(<unused0>)+", lambda run: f"[{len(run[0]) // len('<unused0>')}]", text)
    assert shown == (
        "<bos><start_of_turn>user\nBe short.\n\n<start_of_world>[32]<end_of_world>or<start_of_world>[32]<end_of_world>?"
        "<end_of_turn>\n<start_of_turn>model\nThe first.<end_of_turn>\n<start_of_turn>user\nAnd<start_of_world>[32]"
        "<end_of_world>?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_batch_of_conversations(processor: TheWorldProcessor, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", num_frames=4)
    np.save(tmp_path / "clip.npy", make_clip(1).numpy())
    batch = [
        [user({"type": "video", "path": str(path)}, "Next?")],
        [user("Nothing to see.")],
        [user({"type": "video", "video": path.read_bytes()}, {"type": "world", "path": tmp_path / "clip.npy"}, "?")],
    ]
    asked = {**ASK, "processor_kwargs": {"padding": True, "world_length": "drop"}}
    features = processor.apply_chat_template(batch, **asked)
    assert features["world_frames"].shape == (3, 2, 3, 1, 32, 32)
    assert features["world_num_frames"].tolist() == [[1, 0], [0, 0], [1, 1]]
    assert [int((row == WORLD_TOKEN).sum()) for row in features["input_ids"]] == [16, 0, 32]
    assert torch.equal(features["world_frames"][0, 0], features["world_frames"][2, 0])


def test_two_pictures_in_two_items_are_two_clips(processor: TheWorldProcessor) -> None:
    pictures = [np.full((32, 32, 3), grey, np.uint8) for grey in (0, 255)]
    features = processor.apply_chat_template([user(*map(world, pictures))], **ASK)
    assert features["world_frames"].shape == (1, 2, 3, 1, 32, 32)
    assert features["world_frames"].mean((2, 3, 4, 5)).tolist() == [[-1, 1]]


def test_bare_places_take_the_clips_that_are_given(processor: TheWorldProcessor) -> None:
    asked = {**ASK, "processor_kwargs": {"world_frames": [make_clip()]}}
    features = processor.apply_chat_template([user({"type": "world"}, "Next?")], **asked)
    assert torch.equal(features["world_frames"][0], make_clip())


def test_the_same_as_the_marker_written_by_hand(processor: TheWorldProcessor) -> None:
    by_items = processor.apply_chat_template([user(world(make_clip()), "Next?")], **ASK)
    prompt = processor.apply_chat_template([user("<start_of_world>", "Next?")])
    by_hand = processor(text=prompt, world_frames=make_clip(), add_special_tokens=False, return_tensors="pt")
    assert all(torch.equal(by_items[name], by_hand[name]) for name in by_hand)


@pytest.mark.parametrize(
    ("messages", "changes", "message"),
    [
        ([user({"type": "audio", "path": "a.wav"})], {}, "an item of type 'audio', which nobody reads"),
        ([user({"type": "vidoe"})], {}, "an item of type 'vidoe', which nobody reads; there are text, image, world"),
        ([user({"type": None})], {}, "an item of type None, which nobody reads"),
        ([{"role": "user", "content": ["text"]}], {}, "an item of type 'text', which nobody reads"),
        ([user({"type": "video", "url": "http://x/a.mp4"})], {}, "has a url, which is not fetched; download it"),
        ([user({"type": "video", "paht": "a.mp4"})], {}, "has 'paht', which nobody reads"),
        ([user({"type": "video", "world": "a.mp4"})], {}, "has 'world', which nobody reads; give the clip as 'video'"),
        ([user({"type": "world", "world": make_clip(), "path": "a"})], {}, "has both 'world' and 'path'; give one"),
        ([user({"type": "world"})], {}, 'holds no clip; write "path": FILE'),
        ([user(world(make_clip()))], {"return_dict": False}, "leave them out; return_dict=True"),
        (
            [user(world(make_clip()))],
            {"processor_kwargs": {"world_frames": [make_clip()]}},
            "world_frames are given too",
        ),
        ([user({"type": "video", "path": "none.mp4"})], {}, "none.mp4: missing; check the path"),
        (
            [{"role": "system", "content": [{"type": "text", "text": "a"}, world(make_clip())]}, user("b")],
            {},
            "conversation 0 holds 1 clips, and its chat template renders 0; put clips into the user's messages",
        ),
    ],
)
def test_an_item_that_nobody_would_read_is_an_error(
    processor: TheWorldProcessor, messages: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        processor.apply_chat_template(messages, **{**ASK, **changes})
    assert str(caught.value).isprintable()
