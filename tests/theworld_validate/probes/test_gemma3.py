"""Probes: the same on every machine, and hard enough."""

import numpy as np
from transformers import Gemma3Config

from theworld.geometries import geometry
from theworld_validate.probes.gemma3 import DECODE_STEPS, Probe, build_probes


def probes(size: str = "tiny", seed: int = 0) -> dict[str, Probe]:
    return {probe.name: probe for probe in build_probes(Gemma3Config(**geometry(size).gemma_config), seed=seed)}


def test_all_six_are_there() -> None:
    names = ["text", "image", "two_images", "left_padded_batch", "beyond_window", "cached_decode"]
    assert list(probes()) == names


def test_they_depend_on_the_seed_alone() -> None:
    for name, probe in probes().items():
        again, other = probes()[name], probes(seed=1)[name]
        assert all(np.array_equal(probe.inputs[key], again.inputs[key]) for key in probe.inputs)
        assert not np.array_equal(probe.inputs["input_ids"], other.inputs["input_ids"])


def test_lengths_pass_the_sliding_window() -> None:
    for size, window in (("tiny", 32), ("4b", 1024)):
        asked = probes(size)
        assert asked["beyond_window"].inputs["input_ids"].shape[1] == window + 256
        assert asked["cached_decode"].inputs["input_ids"].shape[1] - DECODE_STEPS > window
        assert asked["text"].inputs["input_ids"].shape[1] >= 256


def test_image_tokens_match_images() -> None:
    asked = probes()
    for name, images in (("image", 1), ("two_images", 2), ("left_padded_batch", 1)):
        inputs = asked[name].inputs
        assert inputs["pixel_values"].shape == (images, 3, 56, 56)
        assert (inputs["input_ids"] == 1024).sum() == inputs["token_type_ids"].sum() == 16 * images


def test_padding_is_left_and_masked() -> None:
    inputs = probes()["left_padded_batch"].inputs
    mask = inputs["attention_mask"]
    assert mask.shape[0] == 3
    assert mask[0].all()
    assert not mask[1:, 0].any()
    assert (np.diff(mask, axis=1) >= 0).all()
    assert (inputs["input_ids"][mask == 0] == 0).all()
