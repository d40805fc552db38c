"""What callers hand to the model and its processor, and get: clip arguments, generation, settings, notes."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

from tests.conftest import make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.generation_rules import WorldTokenSuppressor, with_suppressor
from theworld.synthetic import SyntheticCheckpoint

SETTINGS: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": -1}


@pytest.fixture(scope="module")
def inputs(processor: TheWorldProcessor) -> dict[str, torch.Tensor]:
    return dict(processor(text="<start_of_world>hello there", world_frames=make_clip(), return_tensors="pt"))


@pytest.fixture
def model(shared_world: TheWorld) -> TheWorld:
    return shared_world.eval()


# Clip arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_frames": [make_clip()]}, r"world_frames must be a torch tensor \(batch, 3, .*, got list; TheWorldPr"),
        ({"world_frames": np.zeros((1, 3, 5, 32, 32))}, r"world_frames must be a torch tensor .*, got numpy.ndarray;"),
        ({"world_frames": make_clip()}, r"world_frames must have shape \(batch, 3, .* got \(3, 5, 32, 32\)"),
        ({"world_frames": torch.zeros(3)}, r"world_frames must have shape \(batch, 3, .* got \(3,\)"),
        ({"world_num_frames": [5]}, r"world_num_frames must be a torch tensor \(batch,\) .*, got list;"),
        ({"world_num_frames": torch.tensor([5, 5])}, r"a whole number a clip, shape \(1,\), got \(2,\), torch.int64"),
        ({"world_num_frames": torch.tensor([5.0])}, r"a whole number a clip, shape \(1,\), got \(1,\), torch.float32"),
        ({"world_num_frames": torch.tensor([True])}, r"a whole number a clip, shape \(1,\), got \(1,\), torch.bool"),
        ({"world_frames": None, "world_num_frames": torch.tensor([5])}, "how long clips are, and there is none; give"),
        ({"world_frames": None, "world_latents": torch.zeros(4, 2)}, r"world_latents must have shape .*got \(4, 2\)"),
        ({"world_frames": None, "world_latents": [1]}, "world_latents must be a torch tensor .*, got list;"),
    ],
)
def test_clip_arguments_of_another_form_are_one_line(
    model: TheWorld, inputs: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    given = {**inputs, **change}
    with pytest.raises(ValueError, match=message) as raised:
        model(**given)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=message):
        model.get_world_features(*(given.get(name) for name in ("world_frames", "world_num_frames", "world_latents")))


def test_components_are_frozen_by_their_names(world: TheWorld) -> None:
    for names in (["world_projection"], ("world_projection",)):
        world.set_freeze(names)
        trains = {name for name, parameter in world.named_parameters() if parameter.requires_grad}
        assert trains == {"model.world_projection.linear.weight", "model.world_projection.linear.bias"}
        assert world.config.trainable_components == ["world_projection"]
    for wrong, message in ((["nothing"], "no component is named nothing"), (3, "got 3"), ([3], r"got \[3\]")):
        with pytest.raises(ValueError, match=message):
            world.set_freeze(wrong)


# Generation


@pytest.fixture
def eager(world: TheWorld) -> TheWorld:
    """A model whose head prefers the placeholder to every other token."""
    placeholder = world.world_config.world_token_id
    world.lm_head.register_forward_hook(
        lambda module, args, logits: logits.index_fill(-1, torch.tensor([placeholder]), 1e4)
    )
    return world.eval()


@pytest.mark.parametrize(
    "options",
    [{"use_cache": False}, {"prompt_lookup_num_tokens": 2}, {"num_beams": 2}, {"do_sample": True}, {"assisted": True}],
    ids=lambda options: next(iter(options)),
)
def test_the_placeholder_is_never_decoded(eager: TheWorld, inputs: dict[str, Any], options: dict[str, Any]) -> None:
    if options == {"assisted": True}:
        options = {"assistant_model": eager}
    length = inputs["input_ids"].shape[1]
    made = eager.generate(**inputs, **{**SETTINGS, **options})[0, length:]
    assert len(made) == 3
    assert eager.world_config.world_token_id not in made


def test_the_next_turn_goes_on_where_the_placeholder_was_preferred(eager: TheWorld, inputs: dict[str, Any]) -> None:
    first = eager.generate(**inputs, **SETTINGS, return_dict_in_generate=True)
    ids = torch.cat([first.sequences, torch.full((1, 2), 300)], 1)
    again = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    again.pop("token_type_ids", None)
    more = eager.generate(**again, past_key_values=first.past_key_values, **SETTINGS)
    assert more.shape[1] == ids.shape[1] + 3


def test_without_a_branch_gemmas_scores_are_untouched(tiny: SyntheticCheckpoint, inputs: dict[str, Any]) -> None:
    off = TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.float32)
    off.lm_head.register_forward_hook(lambda module, args, logits: logits.index_fill(-1, torch.tensor([6]), 1e4))
    assert off.generate(torch.tensor([[2, 300]]), **SETTINGS)[0, 2:].tolist() == [6, 6, 6]


def test_a_callers_settings_and_processors_are_heeded(model: TheWorld, inputs: dict[str, Any]) -> None:
    only = LogitsProcessorList([lambda ids, scores: scores.where(torch.arange(scores.shape[1]) == 9, -torch.inf)])
    length = inputs["input_ids"].shape[1]
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    config = GenerationConfig(**SETTINGS)
    assert model.generate(inputs["input_ids"], config, only, **rest)[0, length:].tolist() == [9, 9, 9]
    assert model.generate(**inputs, **SETTINGS, suppress_tokens=[9], logits_processor=None).shape[1] == length + 3
    assert len(with_suppressor(with_suppressor(only, 6), 6)) == 2
    scores = torch.zeros(1, 4)
    assert torch.equal(WorldTokenSuppressor(6)(inputs["input_ids"], scores), scores)  # a smaller vocabulary
    assert WorldTokenSuppressor(2)(inputs["input_ids"], scores).tolist() == [[0, 0, -torch.inf, 0]]
    assert not scores.any()


def test_chunks_that_the_models_own_config_asks_for_are_refused(
    model: TheWorld, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.generation_config, "prefill_chunk_size", 4)
    for given in ({}, {"generation_config": GenerationConfig(**SETTINGS)}):
        with pytest.raises(ValueError, match="leave prefill_chunk_size out, or give prefill_chunk_size=None"):
            model.generate(**inputs, **(given or SETTINGS))
    length = inputs["input_ids"].shape[1]
    assert model.generate(**inputs, **SETTINGS, prefill_chunk_size=None).shape[1] == length + 3


# Notes of clips


def test_notes_are_kept_where_features_are_copied_or_pickled(processor: TheWorldProcessor) -> None:
    features = processor(text="<start_of_world>hello", world_frames=make_clip(3), return_tensors="pt")
    assert len(features.clip_notes[0]) == 1
    copies = (pickle.loads(pickle.dumps(features)), copy.deepcopy(features), copy.copy(features), features.to("cpu"))
    for made in copies:
        assert made.clip_notes == features.clip_notes
        assert torch.equal(made["world_frames"], features["world_frames"])
