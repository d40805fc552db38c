"""What a cell runs: a model made ready for it, and its step.

In: a cell and a model. Out: the same code for measurement and prediction.
"""

from collections.abc import Callable
from typing import Any

from theworld_validate.memory import adapters, family_steps
from theworld_validate.memory.cells import CHUNK_SIZE, FREEZES, TRAIN, Cell


def prepare_model(model: Any, cell: Cell, *, custom_layers: dict[type, type] | None = None) -> None:
    """Freeze, put the adapter on, switch the levers and set the mode, as a cell says; the precision is the caller's.

    Args:
        custom_layers: as `adapters.attach` has it.

    Raises:
        InputError: if the adapter or the preset does not fit the model.
    """
    if cell.is_the_worlds:
        model.gradient_checkpointing_disable()
        if cell.task == TRAIN:
            model.set_freeze(FREEZES[cell.preset])
    else:
        family_steps.freeze_family(model, preset=family_steps.NONE if cell.adapter is not None else cell.preset)
    if cell.adapter is not None:
        adapters.attach(model, cell.adapter, custom_layers=custom_layers)
    if cell.is_the_worlds:
        if cell.checkpointing:
            model.gradient_checkpointing_enable()
        model.set_chunked_loss(CHUNK_SIZE if cell.chunked_loss else None)
    elif cell.checkpointing:
        family_steps.enable_checkpointing(model)
    model.train(cell.task == TRAIN)


def forward_and_backward(model: Any, inputs: dict[str, Any], *, on_phase: Callable[[str], None], autocast: Any) -> None:
    """The first two phases of a step; `on_phase` is told each phase's name before it begins."""
    on_phase("forward")
    with autocast:
        loss = family_steps.family_loss(model, inputs)
    on_phase("backward")
    if loss is not None and loss.requires_grad:  # with the preset "none" nothing does
        loss.backward()


def evaluate(model: Any, inputs: dict[str, Any], *, on_phase: Callable[[str], None]) -> None:
    """The one phase of an evaluation: a forward with its loss, as `Trainer` has it where it keeps the loss alone."""
    import torch

    on_phase("forward")
    with torch.no_grad():
        family_steps.family_loss(model, inputs)
