"""transformers' common model tests for pure Gemma 3, and for TheWorld with its branch off and on.

Not collected by name: the tests come out of transformers' source distribution, which `nox -s ordinary` fetches and puts
on the path as the package `transformers_tests`.
"""

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Model
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)
from transformers_tests.generation.test_utils import GenerationTesterMixin
from transformers_tests.test_modeling_common import ModelTesterMixin

from theworld import TheWorld, TheWorldConfig
from theworld.world_model import TheWorldModel

BATCH, LENGTH, SIDE = 2, 25, 16
IMAGE_TOKENS = 4  # an image's
WORLD_TOKENS = 2  # a clip's: two steps of one cell
IMAGE_TOKEN, WORLD_TOKEN = 4, 5


class Tester:
    """What the common tests ask a model's tester for."""

    batch_size, seq_length, encoder_seq_length, key_length = BATCH, LENGTH, LENGTH, LENGTH
    hidden_size, num_hidden_layers, num_attention_heads, vocab_size = 32, 2, 4, 99
    is_training = True
    with_frames = False

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def get_config(self) -> Any:
        """A small Gemma 3, image tokens and all."""
        shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
        return Gemma3Config(
            text_config={**shared, "vocab_size": 99, "num_key_value_heads": 4, "head_dim": 8, "pad_token_id": 0}
            | {"sliding_window": 128, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2},
            vision_config={**shared, "image_size": SIDE, "patch_size": 4, "num_channels": 3},
            mm_tokens_per_image=IMAGE_TOKENS,
            image_token_index=IMAGE_TOKEN,
            boi_token_index=6,
            eoi_token_index=7,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        """Config and inputs: one image a row, and one clip where the branch is on."""
        ids = torch.randint(10, 99, (BATCH, LENGTH))
        ids[:, :IMAGE_TOKENS] = IMAGE_TOKEN
        inputs = {
            "pixel_values": torch.rand(BATCH, 3, SIDE, SIDE),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": (ids == IMAGE_TOKEN).long(),
        }
        if self.with_frames:
            ids[:, IMAGE_TOKENS : IMAGE_TOKENS + WORLD_TOKENS] = WORLD_TOKEN
            inputs["world_frames"] = torch.rand(BATCH, 3, 5, 8, 8) * 2 - 1
        return self.get_config(), inputs


class WorldTester(Tester):
    """The same model with a world branch, and clips in its inputs."""

    with_frames = True

    def get_config(self) -> Any:
        """Gemma 3's config, and a tiny VAE's."""
        world = {
            "vae_config": {"base_dim": 4, "num_res_blocks": 1, "z_dim": 16},
            "world_token_id": WORLD_TOKEN,
            "max_world_steps": 4,
        }
        ids = {"start_of_world_token_id": 8, "end_of_world_token_id": 9, "frame_size": 8}
        values = {**super().get_config().to_dict(), "model_type": "theworld", "world_config": {**world, **ids}}
        return TheWorldConfig(**values)


class _Common(GenerationTesterMixin, ModelTesterMixin):
    kind: type[Tester] = Tester
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True  # asked whatever year a file's head names

    def setUp(self) -> None:
        self.model_tester = self.kind(self)


class Gemma3Test(_Common, unittest.TestCase):
    """What pure Gemma 3 passes."""

    all_model_classes = (Gemma3Model, Gemma3ForConditionalGeneration)
    all_generative_model_classes = (Gemma3ForConditionalGeneration,)


class _World(_Common):
    """The tests that look a class's name up in transformers' tables find TheWorld's there, as they find Gemma 3's."""

    def test_training(self) -> None:
        with self._named():
            super().test_training()

    def test_causal_lm_loss_honors_shift_labels(self) -> None:
        with self._named():
            super().test_causal_lm_loss_honors_shift_labels()

    @contextmanager
    def _named(self) -> Iterator[None]:
        with (
            mock.patch.dict(MODEL_MAPPING_NAMES, {"theworld": "TheWorldModel"}),
            mock.patch.dict(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, {"theworld": "TheWorld"}),
        ):
            yield


class WorldOffTest(_World, unittest.TestCase):
    """TheWorld from a `Gemma3Config`."""

    all_model_classes = (TheWorldModel, TheWorld)
    all_generative_model_classes = (TheWorld,)


class WorldOnTest(_World, unittest.TestCase):
    """TheWorld with its branch, and a clip in every row."""

    all_model_classes = (TheWorldModel, TheWorld)
    all_generative_model_classes = (TheWorld,)
    kind = WorldTester
