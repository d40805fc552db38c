"""transformers' own Trainer, with nothing of the project's: it goes on from checkpoints, and trains on any batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from tests.conftest import load_world, make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.published_names import with_parameter_names
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_model import TheWorldModel

PROJECTION = "world_projection.linear.weight"


def row(processor: TheWorldProcessor, *, with_clip: bool) -> dict[str, torch.Tensor]:
    clip = {"text": "<start_of_world>hello there", "world_frames": make_clip()} if with_clip else {"text": "hello"}
    inputs = {name: value[0] for name, value in processor(**clip, return_tensors="pt").items()}
    return {**inputs, "labels": inputs["input_ids"].clone()}


def make_trainer(model: TheWorld, rows: Any, folder: Path, **settings: Any) -> Trainer:
    settings = {"per_device_train_batch_size": 1, "learning_rate": 1e-2, "logging_steps": 1, **settings}
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True, **settings)
    return Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)


@pytest.mark.filterwarnings("default")  # Trainer's own, of what it reads back
def test_it_goes_on_from_its_checkpoint_and_takes_the_best(
    tiny: SyntheticCheckpoint, processor: TheWorldProcessor, tmp_path: Path
) -> None:
    rows = [row(processor, with_clip=True)] * 4
    whole = load_world(tiny)
    make_trainer(whole, rows, tmp_path, max_steps=4, save_steps=2).train()
    resumed = load_world(tiny)
    trainer = make_trainer(resumed, rows, tmp_path / "again", max_steps=4, save_strategy="no")
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(resumed.world_projection.linear.weight, whole.world_projection.linear.weight)
    assert trainer.state.global_step == 4

    best = load_world(tiny)
    every_step = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 2}
    trainer = make_trainer(best, rows, tmp_path / "best", load_best_model_at_end=True, **every_step)
    # The first step's is said to be the best, and the model then holds the second's.
    trainer.evaluate = lambda *args, **kwargs: {"eval_loss": float(trainer.state.global_step)}
    trainer.train()
    of_step = [load_file(tmp_path / "best" / f"checkpoint-{n}" / "model.safetensors")[PROJECTION] for n in (1, 2)]
    assert torch.equal(best.world_projection.linear.weight, of_step[0])
    assert not torch.equal(*of_step)


def test_batches_with_and_without_clips_train_the_projection(
    tiny: SyntheticCheckpoint, processor: TheWorldProcessor, tmp_path: Path
) -> None:
    model = load_world(tiny)
    before = model.world_projection.linear.weight.detach().clone()
    rows = [row(processor, with_clip=number % 2 == 1) for number in range(2)]
    trainer = make_trainer(model, rows, tmp_path, max_steps=2, save_strategy="no")
    trainer.train()
    assert trainer.state.global_step == 2
    assert not torch.equal(model.world_projection.linear.weight, before)


def test_a_batch_without_a_clip_has_a_gradient_of_zero_where_only_the_branch_trains(
    world: TheWorld, processor: TheWorldProcessor
) -> None:
    inputs = {name: value[None] for name, value in row(processor, with_clip=False).items()}
    with torch.no_grad():
        plain = world.eval()(**inputs).loss
    loss = world.train()(**inputs).loss
    assert torch.equal(loss, plain)
    loss.backward()
    learns = {name: p.grad for name, p in world.named_parameters() if p.requires_grad}
    assert {"model." + PROJECTION, "model.temporal_embedding.embedding.weight"} < set(learns)
    assert all(grad is not None and not grad.any() for grad in learns.values())
    world.set_freeze("language")  # the loss has a graph without the branch, so the branch is left out
    world.zero_grad()
    world(**inputs).loss.backward()
    assert world.world_projection.linear.weight.grad is None
    world.requires_grad_(False)
    assert not world(**inputs).loss.requires_grad


@pytest.mark.parametrize("enable_world", [True, False])
def test_published_names_are_loaded_as_the_models_own(
    tiny: SyntheticCheckpoint, tmp_path: Path, enable_world: bool
) -> None:
    source = load_world(tiny) if enable_world else TheWorld.from_pretrained(tiny.gemma, dtype=torch.float32)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    source.save_pretrained(tmp_path)
    published = load_file(tmp_path / "model.safetensors")
    own = source.state_dict()
    assert set(published) - set(own)
    target = TheWorld(source.config)
    assert target.load_state_dict(published) == ([], [])  # strictly
    assert all(torch.equal(tensor, own[name]) for name, tensor in target.state_dict().items())
    if not enable_world:
        return
    inner = TheWorldModel(source.config)
    missing, unexpected = inner.load_state_dict(published, strict=False)
    assert (missing, unexpected) == ([], [])
    assert torch.equal(inner.world_projection.linear.weight, source.world_projection.linear.weight)


def test_loading_a_state_dict_is_as_strict_as_it_was(world: TheWorld) -> None:
    own = world.state_dict()
    with pytest.MonkeyPatch.context() as patch:  # to learn names, no tensor is gathered
        patch.setattr(TheWorld, "state_dict", lambda self: pytest.fail("was asked for"))
        assert with_parameter_names(world, own) is own
    without = {name: tensor for name, tensor in own.items() if name != "model." + PROJECTION}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "model.world_projection.linear.weight"'):
        world.load_state_dict(without)
    both = {**own, PROJECTION: torch.zeros_like(own["model." + PROJECTION])}
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "world_projection.linear.weight"'):
        world.load_state_dict(both)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "world_projection.other"'):
        world.load_state_dict({**own, "world_projection.other": torch.zeros(1)})
    head = {name: tensor for name, tensor in own.items() if name != "lm_head.weight"}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "lm_head.weight"'):
        world.load_state_dict(head)
    with pytest.raises(RuntimeError, match=r"size mismatch for model\.world_projection\.linear\.weight"):
        world.load_state_dict({**without, PROJECTION: torch.zeros(1, 1)})
