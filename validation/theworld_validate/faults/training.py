"""Faults of training: the model is right, and what is done to it over several steps is not.

Each is in force while the audit of training has the tiny model trained; its section is the aspect that must catch it.
In: the name of a fault, or none. Out: what that audit checked, as a worker says it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from theworld_validate.audits.training import check_training
from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import CATALOGUE, fault
from theworld_validate.faults.needs import Need
from theworld_validate.workers.child import say
from theworld_validate.workers.messages import Checked, Message, Step

_TRAINED = r"model\.|lm_head"


def observe(fault_name: str | None) -> Iterator[Message]:
    """Audit training with a fault in force, on the aspect that must catch it; or with none, on all."""
    chosen = CATALOGUE[fault_name] if fault_name is not None else None
    with chosen.around() if chosen is not None else contextlib.nullcontext():
        for check in check_training((chosen.section,) if chosen is not None else (), progress=_tell):
            yield Checked(check=check)


def _tell(text: str) -> None:
    say(Step(text=text))


@fault(
    "training", "transformers #48805", "resume", _TRAINED, Cause.RESUMED_WEIGHTS, how="around", needs=(Need.TRAINER,)
)
@contextlib.contextmanager
def resumed_from_the_base() -> Iterator[None]:
    """A loader that finds no key of its own only warns, and leaves the weights that training began with."""
    from theworld.training.trainer import StageTrainer

    with mock.patch.object(StageTrainer, "_load_from_checkpoint", return_value=None):
        yield


@fault(
    "training", "LLaVA-NeXT #492", "rates", r"param_groups", Cause.LEARNING_RATE, how="around", needs=(Need.TRAINER,)
)
@contextlib.contextmanager
def one_rate_for_all_groups() -> Iterator[None]:
    """The groups are built with the arguments' one rate; the trainer itself refuses this."""
    from theworld.training import trainer

    def one_rate(model: Any, stage: Any, decayed: set[str]) -> list[dict[str, Any]]:
        groups = build(model, stage, decayed)
        return [{**group, "lr": max(other["lr"] for other in groups)} for group in groups]

    build = trainer.parameter_groups
    with mock.patch.object(trainer, "parameter_groups", one_rate):
        yield


@fault(
    "training",
    "LLaVA-NeXT #492",
    "rates",
    "language_model|temporal_embedding",
    Cause.LEARNING_RATE,
    how="around",
    needs=(Need.TRAINER,),
)
@contextlib.contextmanager
def rates_lost_before_a_step() -> Iterator[None]:
    """All is right where training begins, and each step then goes by the first group's rate."""
    import torch

    def with_one_rate(optimizer: Any, *arguments: Any, **kwargs: Any) -> Any:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.param_groups[-1]["lr"]
        return step(optimizer, *arguments, **kwargs)

    step = torch.optim.AdamW.step
    with mock.patch.object(torch.optim.AdamW, "step", with_one_rate):
        yield


@fault(
    "training",
    "the freeze stage is lost on loading",
    "frozen",
    r"vae\.encoder",
    Cause.FREEZE,
    how="around",
    needs=(Need.TRAINER,),
)
@contextlib.contextmanager
def frozen_component_trains() -> Iterator[None]:
    """A component that the stage has frozen comes from the loader as trainable."""
    from theworld.training import stages

    def thawed(*arguments: Any) -> Any:
        model = load(*arguments)
        model.model.world_encoder.vae.encoder.requires_grad_(True)
        return model

    load = stages.load_model
    with mock.patch.object(stages, "load_model", thawed):
        yield


@fault(
    "training", "pytorch #186998, #187376", "reduction", _TRAINED, Cause.REDUCTION, how="around", needs=(Need.TRAINER,)
)
@contextlib.contextmanager
def gradients_reduced_in_bfloat16() -> Iterator[None]:
    """As a group of FSDP2's that first ran frozen reduces them."""
    import torch

    from theworld.training import sharding

    with mock.patch.object(sharding, "REDUCE_DTYPE", torch.bfloat16):
        yield


@fault(
    "training",
    "transformers #48972, verl #6334",
    "export",
    r"lm_head",
    Cause.LOST_TIE,
    how="around",
    needs=(Need.TRAINER,),
)
@contextlib.contextmanager
def tie_lost_on_export() -> Iterator[None]:
    """The head is gathered apart from the embeddings, as from shards, and written as a table of its own."""
    from theworld import TheWorld

    def untied(model: Any, directory: Any, *arguments: Any, **kwargs: Any) -> None:
        state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        state["lm_head.weight"][7] *= 1.0078125
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
        save(model, directory, *arguments, **{**kwargs, "state_dict": state})

    save: Any = TheWorld.save_pretrained
    with mock.patch.object(TheWorld, "save_pretrained", untied):
        yield


@fault("training", "transformers #37197", "accumulation", "loss", Cause.LOSS_COUNT, how="around", needs=(Need.TRAINER,))
@contextlib.contextmanager
def accumulation_scales_the_loss() -> Iterator[None]:
    """The count of tokens does not reach the loss: each part is a mean of its own."""
    from transformers import Trainer

    with mock.patch.object(Trainer, "_get_num_items_in_batch", return_value=None):
        yield
