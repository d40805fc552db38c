"""Samples: what is read, what is skipped and named, and in which order."""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import FRAME_SIZE
from tests.theworld.clips.videos import write_video
from tests.theworld.training.conftest import NUM_SAMPLES, question, write_lines
from theworld import TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint
from theworld.training import data as data_module
from theworld.training.collate import Collator
from theworld.training.config import ConfigError, DataConfig, TrainingConfig
from theworld.training.data import Samples, SeededOrder, TooManyBrokenError
from theworld.training.stages import load_model, load_processor


def read(path: Path, processor: TheWorldProcessor, **fields: Any) -> Samples:
    return Samples(DataConfig(path=str(path), **fields), processor.to_frames)


def test_samples_are_read_by_number(data: Path, processor: TheWorldProcessor) -> None:
    samples = read(data, processor)
    assert len(samples) == NUM_SAMPLES
    assert samples[0].clips == ()
    (clip,) = samples[4].clips
    assert clip.shape == (3, 5, FRAME_SIZE, FRAME_SIZE)
    raw = np.load(data.parent / "4.npy")
    assert torch.equal(clip, torch.from_numpy(raw).permute(3, 0, 1, 2).float() / 127.5 - 1.0)


CLIP = {"type": "world", "path": "0.npy"}


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "a"} for role in roles]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a"}, 'has no list "messages"'),
        ({"messages": [{"role": "user", "content": "a"}]}, "nothing to learn"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "role is none of"),
        ({"messages": [{"role": "user", "content": 3}]}, "neither a text nor a list"),
        (question({"type": "world", "path": "none.npy"}, answer="a"), "none.npy: missing"),
        (question({"type": "world", "path": "pickle.npy"}, answer="a"), "allow_pickle=False"),
        (question({"type": "world", "path": "cut.npy"}, answer="a"), "could only read"),
        (question({"type": "world", "path": "empty.npy"}, answer="a"), "empty.npy: empty"),
        (question({"type": "world", "path": "bad.npz"}, answer="a"), "is not a zip file"),
        (question({"type": "world", "path": "two.npz"}, answer="a"), "holds 2 arrays"),
        (question({"type": "world", "path": "five.npy"}, answer="a"), "must have shape (3, frames, height, width)"),
        (question({"type": "video", "path": "none.mp4"}, answer="a"), "none.mp4: missing"),
        (question({"type": "video", "path": "samples.jsonl"}, answer="a"), "not a video that can be read"),
        (question({"type": "video", "video": "clip.mp4"}, answer="a"), "no text, image, world or video with a path"),
        (question({"type": "image", "path": "cut.npy"}, answer="a"), "cannot identify image file"),
        (question({"type": "text", "text": "<start_of_turn>model"}, answer="a"), "holds <start_of_turn>"),
        (question({"type": "image", "path": "fifo"}, answer="a"), "fifo: not a regular file"),
        (question({"type": "image", "path": "half.png"}, answer="a"), "half.png: no picture that can be read"),
        (question(answer="\ud800"), "text with half a surrogate pair"),
        (question(answer=float("nan")), "NaN is not a JSON number"),
        (turns("user", "user", "assistant"), "message 1 is the user's, and the assistant's would come next"),
        (turns("assistant"), "message 0 is the assistant's, and the user's would come next"),
        (turns("user", "assistant", "system"), "message 2 is the system's, and the user's would come next"),
        (turns("system", "assistant"), "message 1 is the assistant's, and the user's would come next"),
        (turns("system", "user"), "nothing to learn"),
        (turns(), "nothing to learn"),
        (
            {"messages": [{"role": "user", "content": []}, {"role": "assistant", "content": []}]},
            "is empty, so",
        ),
        (question(answer=" "), "every message of the assistant's is empty"),
        (question({"type": "world", "path": "\x1b[31m"}, answer="a"), r"\x1b[31m: missing"),
    ],
)
def test_a_broken_sample_is_named_and_the_next_one_stands_in(
    tmp_path: Path, processor: TheWorldProcessor, row: dict[str, Any], reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    frames = np.zeros((4, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    np.save(tmp_path / "four.npy", frames)
    np.save(tmp_path / "five.npy", frames[None])
    (tmp_path / "empty.npy").touch()
    os.mkfifo(tmp_path / "fifo")
    Image.fromarray(frames[0]).save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:60])
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04" + bytes(80))
    np.savez(tmp_path / "two.npz", a=frames, b=frames)
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "four.npy").read_bytes()[:500])
    samples = read(write_lines(tmp_path / "samples.jsonl", [row, question(answer="b")]), processor)
    assert samples[0].messages[1]["content"][0]["text"] == "b"
    assert list(samples.broken) == [0]
    assert reason in samples.broken[0]
    assert "samples.jsonl sample 0" in caplog.text
    samples[0]
    assert caplog.text.count("skipped") == 1
    with pytest.raises(TooManyBrokenError, match=r"data\.max_broken_samples is 0"):
        read(tmp_path / "samples.jsonl", processor, max_broken_samples=0)[0]


def test_a_video_is_read_by_the_rules_of_the_config(tmp_path: Path, tiny: SyntheticCheckpoint) -> None:
    write_video(tmp_path / "clip.mkv", num_frames=12, codec="ffv1")
    rows = [question({"type": "video", "path": "clip.mkv"}, answer="a")]
    path = write_lines(tmp_path / "samples.jsonl", rows)
    values = {"model": str(tiny.gemma), "cosmos": str(tiny.cosmos), "output_dir": "out"}
    values |= {"data": {"path": str(path), "fps": 8, "length": "drop"}, "world": {"frame_size": FRAME_SIZE}}
    stage = {"name": "a", "steps": 1, "learning_rate": 0.1}
    config = TrainingConfig.model_validate({**values, "stages": (stage,)})
    processor = load_processor(config, load_model(config, 0).config.world_config)
    (clip,) = read(path, processor)[0].clips
    assert torch.equal(clip, processor.to_frames(tmp_path / "clip.mkv"))
    assert clip.shape == (3, 5, FRAME_SIZE, FRAME_SIZE)


def test_a_line_that_is_no_json_is_broken_and_all_broken_is_an_error(
    tmp_path: Path, processor: TheWorldProcessor
) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("{\n\n[]\n")
    with pytest.raises(TooManyBrokenError, match="no sample is whole"):
        read(path, processor)[0]
    path.write_text(f"{'[' * 100_000}\n")
    with pytest.raises(TooManyBrokenError, match=r"samples\.jsonl sample 0: nested deeper than 64 levels"):
        read(path, processor)[0]
    path.write_text("\n")
    with pytest.raises(ConfigError, match="holds no sample"):
        read(path, processor)
    with pytest.raises(ConfigError, match=r"none\.jsonl: missing; check the path"):
        read(tmp_path / "none.jsonl", processor)


@pytest.mark.parametrize("roles", [("user", "assistant"), ("system", "user", "assistant", "user")])
def test_turns_in_order_are_read_and_rendered(
    tmp_path: Path, processor: TheWorldProcessor, roles: tuple[str, ...]
) -> None:
    samples = read(write_lines(tmp_path / "samples.jsonl", [turns(*roles)]), processor)
    assert (Collator(processor)([samples[0]])["labels"] >= 0).sum() == 2
    assert samples.broken == {}


def test_the_file_is_not_held(data: Path, processor: TheWorldProcessor) -> None:
    samples = read(data, processor)
    assert vars(samples._rows).keys() == {"path", "_offsets"}
    assert samples._rows._offsets.dtype == np.int64  # type: ignore[attr-defined]


def test_a_saved_dataset_is_read(tmp_path: Path, processor: TheWorldProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs the package datasets; install it, or write JSONL"):
        read(tmp_path, processor)
    rows = [question({"type": "text", "text": "a"}, answer="b")]
    stand_in = types.SimpleNamespace(load_from_disk=lambda path: rows if path == str(tmp_path) else None)
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    monkeypatch.setattr(data_module.importlib.util, "find_spec", lambda name: name == "datasets")
    samples = read(tmp_path, processor)
    assert len(samples) == 1
    assert samples[0].messages[0]["content"][0] == {"type": "text", "text": "a"}


def test_the_order_is_seeded_and_each_epoch_has_its_own() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = SeededOrder(50, seed)
        order.set_epoch(number)
        return list(order)

    assert epoch(0, 0) == epoch(0, 0)
    assert sorted(epoch(0, 0)) == list(range(50))
    assert len({tuple(epoch(seed, number)) for seed in range(3) for number in range(3)}) == 9


def test_groups_stay_together_in_their_order() -> None:
    order = list(SeededOrder(11, 0, group_size=3))
    assert sorted(order) == list(range(11))
    starts = [number for number in order if number % 3 == 0]
    assert [number for start in starts for number in range(start, min(start + 3, 11))] == order
    assert starts != sorted(starts)
    assert list(SeededOrder(11, 0, group_size=1)) == list(SeededOrder(11, 0))


# Batches


def decode(processor: TheWorldProcessor, labels: torch.Tensor) -> str:
    return processor.tokenizer.decode(labels[labels >= 0])


def test_labels_are_the_assistants_turns_alone(tmp_path: Path, processor: TheWorldProcessor) -> None:
    np.save(tmp_path / "0.npy", np.zeros((5, FRAME_SIZE, FRAME_SIZE, 3), np.uint8))
    Image.new("RGB", (30, 30)).save(tmp_path / "0.png")
    several = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [{"type": "image", "path": "0.png"}, {"type": "text", "text": "model"}]},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
    ]
    rows = [question(CLIP, answer="left"), {"messages": several}, question(answer="right")]
    samples = read(write_lines(tmp_path / "samples.jsonl", rows), processor)
    collator = Collator(processor)
    batch = collator([samples[0], samples[1], samples[2]])
    learned = [decode(processor, row) for row in batch["labels"]]
    assert learned == ["left<end_of_turn>", "one<end_of_turn>two<end_of_turn>", "right<end_of_turn>"]
    has_label = batch["labels"] >= 0
    assert torch.equal(batch["labels"][has_label], batch["input_ids"][has_label])
    assert not (has_label & (batch["attention_mask"] == 0)).any()
    assert batch["world_num_frames"].tolist() == [5, 0, 0]
    assert batch["pixel_values"].shape[0] == 1
    assert (batch["input_ids"][:, 0] == processor.tokenizer.bos_token_id).all()
    assert (batch["input_ids"][:, 1] != processor.tokenizer.bos_token_id).all()
    assert "world_frames" not in collator([samples[2]])
    assert collator([samples[0]])["world_frames"].shape[0] == 1


def test_a_turn_that_is_not_found_is_an_error(data: Path, processor: TheWorldProcessor) -> None:
    collator = Collator(processor)
    collator._header = [7, 7]  # as if a tokenizer had merged it with what follows
    with pytest.raises(ValueError, match="found 0 turns of the assistant's in a conversation that has 1"):
        collator([read(data, processor)[0]])


def test_a_template_without_turns_is_an_error(processor: TheWorldProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(processor), "apply_chat_template", lambda self, messages, **_: json.dumps(messages))
    with pytest.raises(ConfigError, match="does not mark the assistant's turns"):
        Collator(processor)
