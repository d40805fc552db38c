"""Gemma 3's probes: the same on every machine, hard enough, and refused where a config makes them impossible."""

import hashlib
from typing import Any

import numpy as np
import pytest
from transformers import Gemma3Config

from theworld.geometries import geometry
from theworld_validate.probes.gemma3 import DECODE_STEPS, PROBE_NAMES, Probe, build_probes
from theworld_validate.probes.gemma3_fields import MAX_IMAGE_SIZE, MAX_TOKENS
from theworld_validate.results import InputError


def config(size: str = "tiny") -> Any:
    return Gemma3Config(**geometry(size).gemma_config)


def probes(size: str = "tiny", seed: int = 0) -> dict[str, Probe]:
    return {probe.name: probe for probe in build_probes(config(size), seed=seed)}


def test_all_are_there_in_order() -> None:
    assert tuple(probes()) == PROBE_NAMES
    assert len(PROBE_NAMES) == 7


def test_they_depend_on_the_seed_alone() -> None:
    for name, probe in probes().items():
        again, other = probes()[name], probes(seed=1)[name]
        assert all(np.array_equal(probe.inputs[key], again.inputs[key]) for key in probe.inputs)
        assert not np.array_equal(probe.inputs["input_ids"], other.inputs["input_ids"])


def test_ids_are_those_of_earlier_versions() -> None:
    """Fingerprints on disk are compared with new ones: probes keep their ids."""
    ids = {name: probe.inputs["input_ids"] for name, probe in probes().items()}
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest()[:12] for name, array in ids.items()}
    assert digests == {
        "text": "5f624e67ca7b",
        "image": "1576e660a2ab",
        "two_images": "8ea3f65dad03",
        "left_padded_batch": "ea8610bfaa6a",
        "right_padded_batch": "4f308be25ab4",
        "beyond_window": "3702524ca693",
        "cached_decode": "ffa65e165a9d",
    }


def test_lengths_pass_the_sliding_window() -> None:
    for size, window in (("tiny", 32), ("4b", 1024)):
        asked = probes(size)
        assert asked["beyond_window"].inputs["input_ids"].shape[1] == window + 256
        assert asked["cached_decode"].inputs["input_ids"].shape[1] - DECODE_STEPS > window
        assert asked["text"].inputs["input_ids"].shape[1] >= 256


def test_image_tokens_match_images() -> None:
    asked = probes()
    for name, images in (("image", 1), ("two_images", 2), ("left_padded_batch", 1), ("right_padded_batch", 1)):
        inputs = asked[name].inputs
        assert inputs["pixel_values"].shape == (images, 3, 56, 56)
        assert (inputs["input_ids"] == 1024).sum() == inputs["token_type_ids"].sum() == 16 * images
        assert sum(asked[name].images_per_row) == images


@pytest.mark.parametrize(("name", "step"), [("left_padded_batch", 1), ("right_padded_batch", -1)])
def test_padding_is_on_its_side_and_masked(name: str, step: int) -> None:
    inputs = probes()[name].inputs
    mask = inputs["attention_mask"][:, ::step]  # as if padded on the left
    assert mask.shape[0] == 3
    assert [row.all() for row in mask].count(True) == 1
    assert (np.diff(mask, axis=1) >= 0).all()
    assert mask[:, -1].all()
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == 0).all()


@pytest.mark.parametrize("name", ["left_padded_batch", "right_padded_batch"])
def test_a_row_alone_has_its_tokens_and_its_image(name: str) -> None:
    probe = probes()[name]
    for i, num_images in enumerate(probe.images_per_row):
        row = probe.row(i)
        is_token = probe.inputs["attention_mask"][i] == 1
        assert row["input_ids"].tolist() == [probe.inputs["input_ids"][i][is_token].tolist()]
        assert row["attention_mask"].all()
        assert row["token_type_ids"].sum() == 16 * num_images
        assert ("pixel_values" in row) == bool(num_images)


def test_every_question_is_asked_of_a_probe() -> None:
    asked = probes()
    assert asked["text"].extras == ("loss_by_count", "embeds", "arguments")
    assert asked["cached_decode"].extras == ("untraced",)
    assert asked["image"].extras == ("embeds",)
    assert asked["left_padded_batch"].extras == asked["right_padded_batch"].extras == ("rows",)
    assert {way for probe in asked.values() for way in probe.generation} == {"greedy", "sampled", "beams", "static"}


_BAD_FIELDS: list[tuple[str, Any]] = [
    ("text_config.sliding_window", 100_000_000),
    ("text_config.sliding_window", MAX_TOKENS),
    ("text_config.sliding_window", 0),
    ("text_config.sliding_window", -1),
    ("text_config.sliding_window", None),
    ("text_config.sliding_window", True),
    ("text_config.bos_token_id", 1_000_000_000),
    ("text_config.bos_token_id", -1),
    ("text_config.bos_token_id", [2]),
    ("text_config.pad_token_id", None),
    ("text_config.vocab_size", -5),
    ("text_config.vocab_size", "many"),
    ("boi_token_index", -1),
    ("boi_token_index", 0),
    ("boi_token_index", 10**9),
    ("image_token_index", None),
    ("eoi_token_index", None),
    ("mm_tokens_per_image", 100_000_000),
    ("mm_tokens_per_image", MAX_TOKENS // 2),
    ("mm_tokens_per_image", 0),
    ("mm_tokens_per_image", -4),
    ("vision_config.image_size", 1_000_000),
    ("vision_config.image_size", MAX_IMAGE_SIZE + 1),
    ("vision_config.image_size", 0),
    ("vision_config.image_size", -7),
    ("vision_config.image_size", 56.0),
]


@pytest.mark.parametrize(("path", "value"), _BAD_FIELDS, ids=[f"{path}={value}" for path, value in _BAD_FIELDS])
def test_a_field_that_no_probe_can_be_built_from_is_named(path: str, value: Any) -> None:
    bad = config()
    owner = bad
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    vars(owner)[name] = value  # past the config's own checks, as a file may be
    if "image_token" in path:
        vars(owner)["image_token_id"] = value
    with pytest.raises(InputError) as caught:
        build_probes(bad)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"config.json: {path} is ")


def test_a_config_without_a_part_is_named() -> None:
    bad = config()
    vars(bad)["vision_config"] = None
    with pytest.raises(InputError, match=r"config\.json: vision_config\.image_size is None"):
        build_probes(bad)


def test_the_longest_probes_are_built() -> None:
    long = config()
    long.text_config.sliding_window = MAX_TOKENS - 256
    assert max(probe.inputs["input_ids"].shape[1] for probe in build_probes(long)) == MAX_TOKENS
