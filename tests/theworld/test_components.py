"""Components: every parameter in exactly one, and the 4B geometry's counts to the unit."""

import pytest
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from theworld import TheWorld, TheWorldConfig
from theworld.components import COMPONENT_NAMES, COMPONENTS, count_parameters, parameters_by_component
from theworld.geometries import geometry


def test_every_parameter_is_in_exactly_one_component(shared_world: TheWorld) -> None:
    components = parameters_by_component(shared_world)
    assert tuple(components) == COMPONENT_NAMES
    names = [name for parameters in components.values() for name in parameters]
    assert sorted(names) == sorted(name for name, _ in shared_world.named_parameters())


def test_gemma_has_three_components(gemma: Gemma3ForConditionalGeneration) -> None:
    assert [count.name for count in count_parameters(gemma)] == list(COMPONENT_NAMES[:3])


def test_a_stray_parameter_is_an_error(world: TheWorld) -> None:
    world.stray = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"parameter stray.weight belongs to 0 components"):
        count_parameters(world)


def test_an_overlapping_list_is_an_error(world: TheWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theworld.components.COMPONENTS", (*COMPONENTS, COMPONENTS[0]))
    with pytest.raises(ValueError, match="belongs to 2 components"):
        count_parameters(world)


def test_a_parameter_shared_by_two_components_is_counted_once(world: TheWorld) -> None:
    total = world.get_trainable_parameters()[1]
    shared = world.world_projection.linear.bias
    world.multi_modal_projector_bias = None
    world.temporal_embedding.shared = shared
    assert world.get_trainable_parameters()[1] == total


def test_an_untied_head_is_counted(world: TheWorld) -> None:
    total = world.get_trainable_parameters()[1]
    world.lm_head.weight = nn.Parameter(world.lm_head.weight.detach().clone())
    assert world.get_trainable_parameters()[1] == total + world.lm_head.weight.numel()


@pytest.fixture(scope="module")
def documented_4b() -> TheWorld:
    shape = geometry("4b")
    fields = {**shape.gemma_config, "text_config": {**shape.gemma_config["text_config"], "vocab_size": 262_147}}
    world_config = {"vae_config": shape.vae_config, "use_temporal_embedding": False}
    with torch.device("meta"):
        model = TheWorld(TheWorldConfig(**fields, world_config=world_config))
    model.set_freeze("documented")
    return model


def test_4b_counts_hold_to_the_unit(documented_4b: TheWorld) -> None:
    counts = {count.name: count.total for count in count_parameters(documented_4b)}
    assert counts == {
        "vision_tower": 416_866_032,
        "multi_modal_projector": 2_950_272,
        "language_model": 3_880_107_008,
        "vae_encoder": 53_595_872,
        "vae_quant_conv": 1_056,
        "vae_post_quant_conv": 272,
        "vae_decoder": 73_295_331,
        "world_projection": 43_520,
    }
    assert documented_4b.get_input_embeddings().weight.numel() == 671_096_320
    assert documented_4b.lm_head.weight is documented_4b.get_input_embeddings().weight


def test_4b_documented_preset_prints_the_documented_line(documented_4b: TheWorld) -> None:
    trainable, total, percentage = documented_4b.get_trainable_parameters()
    assert f"{trainable:,} / {total:,} ({percentage:.2f}%)" == "76,290,451 / 4,426,859,363 (1.72%)"
    dead = [c.trainable for c in count_parameters(documented_4b) if c.name.startswith("vae_")]
    assert sum(dead) == 73_296_659


def test_the_untouched_4b_checkpoint_has_its_own_rows() -> None:
    with torch.device("meta"):
        model = TheWorld(TheWorldConfig(**geometry("4b").gemma_config))
    counts = {count.name: count.total for count in count_parameters(model)}
    assert counts["language_model"] == 3_880_263_168
    assert model.get_input_embeddings().num_embeddings == 262_208
