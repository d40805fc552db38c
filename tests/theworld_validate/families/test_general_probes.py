"""General probes: what is asked of each kind of model, and that special ids are no text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from theworld_validate.probes.family import Asked
from theworld_validate.probes.general_fields import special_ids
from theworld_validate.probes.probe import IGNORED_LABEL, gradient_probe
from theworld_validate.probes.registry import family_of
from theworld_validate.subjects.architectures import architecture_of

TinyOf = Callable[[str], Path]


def ask(folder: Path) -> tuple[Any, Asked]:
    found = architecture_of(str(folder))
    return found.config, family_of(found.config.model_type)(found.config, found.model_class).build()


@pytest.mark.parametrize(
    ("name", "probes"),
    [
        ("LlamaForCausalLM", ["text", "left_padded_batch", "cached_decode"]),
        ("MistralForCausalLM", ["text", "left_padded_batch", "beyond_window", "cached_decode"]),
        ("BertForMaskedLM", ["text", "right_padded_batch"]),
        ("T5ForConditionalGeneration", ["text", "right_padded_batch"]),
        ("LlavaForConditionalGeneration", ["text", "left_padded_batch", "image", "text_after_image"]),
        ("Qwen2_5_VLForConditionalGeneration", ["text", "left_padded_batch", "image", "text_after_image"]),
        ("CLIPModel", ["image"]),
        ("ViTForImageClassification", ["pixels"]),
        ("WhisperForConditionalGeneration", ["sound"]),
        ("Pix2StructForConditionalGeneration", ["flattened_patches"]),
        ("MambaForCausalLM", ["text", "left_padded_batch"]),
    ],
)
def test_each_kind_is_asked_what_it_can_be_asked(tiny_of: TinyOf, name: str, probes: list[str]) -> None:
    _, asked = ask(tiny_of(name))
    assert [probe.name for probe in asked.probes] == probes
    assert asked.unasked == ()
    assert gradient_probe(asked.probes) is not None


def test_special_ids_are_no_text_and_image_tokens_no_targets(tiny_of: TinyOf) -> None:
    config, asked = ask(tiny_of("LlavaForConditionalGeneration"))
    by_name = {probe.name: probe for probe in asked.probes}
    special = special_ids(config)
    assert config.image_token_index in special
    assert not special & set(by_name["text"].inputs["input_ids"].flatten().tolist())
    image = by_name["image"]
    is_image = image.inputs["input_ids"] == config.image_token_index
    assert is_image.sum() == 16  # 32 pixels in patches of 8
    assert image.labels is not None
    assert bool((image.labels[is_image] == IGNORED_LABEL).all())
    assert bool((image.labels[~is_image] == image.inputs["input_ids"][~is_image]).all())


def test_the_same_seed_asks_the_same(tiny_of: TinyOf) -> None:
    found = architecture_of(str(tiny_of("LlamaForCausalLM")))
    family = family_of("llama")
    one, same, other = (family(found.config, found.model_class, seed=seed).build().probes[0] for seed in (1, 1, 2))
    assert np.array_equal(one.inputs["input_ids"], same.inputs["input_ids"])
    assert not np.array_equal(one.inputs["input_ids"], other.inputs["input_ids"])


def test_a_row_of_an_encoder_and_decoder_has_its_own_decoders_ids(tiny_of: TinyOf) -> None:
    _, asked = ask(tiny_of("T5ForConditionalGeneration"))
    batch = asked.probes[1]
    row = batch.row(2)
    assert row["input_ids"].shape == (1, 9)
    assert np.array_equal(row["decoder_input_ids"], batch.inputs["decoder_input_ids"][2:])
