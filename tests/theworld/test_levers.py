"""The levers: what each changes of loss and gradients, within a stated bound, and what it leaves behind: nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.conftest import load_world
from theworld import TheWorld
from theworld.geometries import geometry
from theworld.levers import memory_levers
from theworld.levers.chunked_loss import (
    IGNORED_LABEL,
    available_backends,
    chunked_cross_entropy,
    rows_that_count,
    shift_labels,
)
from theworld.levers.master_weights import use_master_weights
from theworld.synthetic import SyntheticCheckpoint, write_checkpoint
from theworld_validate.memory.cell_inputs import count_labels, make_inputs
from theworld_validate.memory.cell_steps import prepare_model
from theworld_validate.memory.cells import Cell

# Relative to the largest element: float32 sums in another order; bfloat16 also rounds each piece's gradients.
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 2**-5}


def step(model: TheWorld, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(**inputs, use_cache=False).loss
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(
        float((one[n].float() - other[n].float()).abs().max() / one[n].float().abs().max())
        for n in one
        # Softmax does not see a key's bias: its gradient is zero but for rounding.
        if not n.endswith("k_proj.bias")
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCheckpoint:
    """The tiny checkpoint, wider: the bounds are for gradients of many elements, none of which has all the rounding."""
    shape = geometry("tiny")
    text = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "query_pre_attn_scalar": 64}
    gemma = shape.gemma_config | {"text_config": shape.gemma_config["text_config"] | text}
    shape = replace(shape, gemma_config=gemma, vae_config=shape.vae_config | {"base_dim": 16})
    return write_checkpoint(shape, tmp_path_factory.mktemp("wide") / "checkpoint")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest, wide: SyntheticCheckpoint) -> TheWorld:
    return load_world(wide, dtype=request.param)


@pytest.fixture
def inputs(model: TheWorld) -> dict[str, Any]:
    cell = Cell(preset="full", world_tokens=16, text_tokens=300, batch=2)
    prepare_model(model, cell)
    made = make_inputs(cell, model.config, device="cpu")
    made["labels"][:, :40] = IGNORED_LABEL
    return made


@pytest.mark.parametrize("backend", [name for name in available_backends() if name != "liger"])
def test_chunked_loss_is_the_plain_one(model: TheWorld, inputs: dict[str, Any], backend: str) -> None:
    loss, gradients = step(model, inputs)
    assert model.set_chunked_loss(100, backend=backend) == backend
    chunked_loss, chunked = step(model, inputs)
    assert torch.allclose(loss.float(), chunked_loss.float(), rtol=BOUNDS[model.dtype], atol=0)
    assert largest_difference(gradients, chunked) <= BOUNDS[model.dtype]
    assert model(**inputs, use_cache=False).logits is None
    assert model.set_chunked_loss(None) is None
    again, plain = step(model, inputs)
    assert torch.equal(loss, again)
    assert largest_difference(gradients, plain) == 0


def test_checkpointing_changes_no_bit_and_leaves_no_hook(model: TheWorld, inputs: dict[str, Any]) -> None:
    loss, gradients = step(model, inputs)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    model.gradient_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    checkpointed_loss, checkpointed = step(model, inputs)
    assert torch.equal(loss, checkpointed_loss)
    assert largest_difference(gradients, checkpointed) == 0
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    model.gradient_checkpointing_disable()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


def test_reentrant_checkpointing_keeps_the_hooks_that_it_needs(shared_world: TheWorld) -> None:
    try:
        shared_world.gradient_checkpointing_enable({"use_reentrant": True})
        assert any(module._forward_hooks for module in shared_world.modules())
    finally:
        shared_world.gradient_checkpointing_disable()
    assert not any(module._forward_hooks for module in shared_world.modules())


def test_chunks_of_any_size_and_a_given_count() -> None:
    random = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(37, 8, generator=random), torch.randn(50, 8, generator=random)
    labels = torch.randint(0, 50, (37,), generator=random)
    expected = functional.cross_entropy(functional.linear(hidden, weight), labels)
    for chunk_size in (1, 7, 37, 1000):
        assert torch.allclose(chunked_cross_entropy(hidden, weight, labels, chunk_size=chunk_size), expected)
    half = chunked_cross_entropy(hidden, weight, labels, num_items=74)
    assert torch.allclose(half, expected / 2)


def test_what_cannot_be_is_refused(shared_world: TheWorld) -> None:
    with pytest.raises(ValueError, match="no loss backend 'fast' here; there are plain"):
        shared_world.set_chunked_loss(256, backend="fast")
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        shared_world.set_chunked_loss(0)
    with pytest.raises(ValueError, match="no loss backend"):
        chunked_cross_entropy(torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1), backend="fast")


def test_the_head_sees_only_rows_that_have_a_label(
    model: TheWorld, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = memory_levers.chunked_cross_entropy
    monkeypatch.setattr(
        memory_levers, "chunked_cross_entropy", lambda h, *a, **k: seen.append(len(h)) or original(h, *a, **k)
    )
    model.set_chunked_loss(100)
    inputs["labels"][:, 60:] = IGNORED_LABEL
    chunked_loss, chunked = step(model, inputs)
    assert seen == [2 * 20]
    model.set_chunked_loss(None)
    loss, gradients = step(model, inputs)
    assert torch.allclose(loss.float(), chunked_loss.float(), rtol=BOUNDS[model.dtype], atol=0)
    assert largest_difference(gradients, chunked) <= BOUNDS[model.dtype]


def test_labels_that_count_are_those_that_a_prediction_counts(model: TheWorld) -> None:
    cell = Cell(world_tokens=16, text_tokens=30, batch=2)
    labels = make_inputs(cell, model.config, device="cpu")["labels"]
    assert len(rows_that_count(shift_labels(labels))) == count_labels(cell)


def test_labels_are_shifted_row_by_row() -> None:
    assert shift_labels(torch.tensor([[1, 2], [3, 4]])).tolist() == [2, IGNORED_LABEL, 4, IGNORED_LABEL]


def test_master_weights_are_float32_where_it_trains(tiny: SyntheticCheckpoint) -> None:
    model = load_world(tiny, dtype=torch.bfloat16)
    model.set_freeze("language")
    trainable, _, _ = model.get_trainable_parameters()
    assert use_master_weights(model) == 2 * trainable
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert model.lm_head.weight is model.get_input_embeddings().weight
    inputs = make_inputs(Cell(world_tokens=16, text_tokens=30), model.config, device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs, use_cache=False).loss
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


# The call's own settings


def test_the_chunked_loss_heeds_the_calls_settings(shared_world: TheWorld) -> None:
    ids = torch.arange(10, 40)[None]
    labels = ids.masked_fill(ids % 3 == 0, 0)
    calls: list[dict[str, Any]] = [
        {"labels": ids, "shift_labels": ids.roll(-2, 1)},
        {"labels": labels, "ignore_index": 0},
        {"labels": ids, "num_items_in_batch": 7},
    ]
    inputs = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids)}
    plain = [shared_world(**inputs, **call).loss for call in calls]
    assert len({loss.item() for loss in plain}) == 3
    try:
        shared_world.set_chunked_loss(8)
        for loss, call in zip(plain, calls, strict=True):
            assert torch.allclose(shared_world(**inputs, **call).loss, loss, rtol=BOUNDS[torch.float32], atol=0)
        told = shared_world(**inputs, labels=ids, return_dict=False)
        assert isinstance(told, tuple)
        assert torch.equal(told[0], shared_world(**inputs, labels=ids).loss)
        shared_world.config.return_dict = False
        assert isinstance(shared_world(**inputs, labels=ids), tuple)
    finally:
        shared_world.config.return_dict = True
        shared_world.set_chunked_loss(None)


def test_the_chunked_loss_refuses_another_loss_function(world: TheWorld) -> None:
    ids = torch.arange(10, 20)[None]
    world.loss_function = lambda logits, labels, **kwargs: logits.sum()
    world.set_chunked_loss(8)
    with pytest.raises(ValueError, match=r"this model has another loss_function; call set_chunked_loss\(None\)"):
        world(input_ids=ids, labels=ids)
    world.set_chunked_loss(None)
    assert world(input_ids=ids, labels=ids).loss.isfinite()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_leaves_a_callers_hooks(world: TheWorld, use_reentrant: bool) -> None:
    def count() -> int:
        return sum(len(module._forward_hooks) for module in world.modules())

    world.enable_input_require_grads()
    callers = count()
    assert callers > 0
    for _ in range(2):
        world.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        assert count() == callers * (2 if use_reentrant else 1)
    world.gradient_checkpointing_disable()
    assert count() == callers
    world.disable_input_require_grads()
    assert count() == 0
