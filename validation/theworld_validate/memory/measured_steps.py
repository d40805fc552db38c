"""One training step, evaluation or call that generates, run with real tensors, and the peaks of its phases.

In: a model made ready for a cell. Out: objects that `measure` runs three times each, and asks for their peaks.
"""

import contextlib
from typing import Any

from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import evaluate, forward_and_backward
from theworld_validate.memory.cells import EVALUATE, LEARNING_RATE, ROLLOUT, STEPS, Cell
from theworld_validate.memory.inference import CALL_PHASES, run_call
from theworld_validate.memory.optimizers import make_optimizer
from theworld_validate.memory.phase_peaks import PhasePeaks


def make_batches(model: Any, cell: Cell) -> list[dict[str, Any]]:
    """The batches of one step, all on the device before it begins, as `Trainer` fetches them."""
    return [make_inputs(cell, model.config, device=model.device) for _ in range(cell.accumulation)]


class Step(PhasePeaks):
    """One training step, and the peaks of its phases."""

    def __init__(self, model: Any, cell: Cell) -> None:
        import torch

        super().__init__()
        self.model, self.cell = model, cell
        self.batches: list[dict[str, Any]] = []
        self.gradients_began_us: float | None = None
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(model, cell.optimizer, learning_rate=LEARNING_RATE)
        is_mixed = cell.precision == "mixed"
        self.autocast = torch.autocast(model.device.type, torch.bfloat16) if is_mixed else contextlib.nullcontext()

    @property
    def backward_began_us(self) -> float | None:
        """Of the last batch: Unix time in microseconds."""
        return self.phase_started_us["backward"]

    def tensors(self) -> dict[str, Any]:
        """Tensors that are there before a step, by kind."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        return {"optimizer_state": [value for value in states if hasattr(value, "untyped_storage")]}

    def run(self) -> None:
        """Forward, loss, backward, AdamW, zero_grad."""
        self.start("forward")
        for number, inputs in enumerate(self.batches):
            forward_and_backward(self.model, inputs, on_phase=self.enter, autocast=self.autocast)
            if number == 0:
                self.gradients_began_us = self.backward_began_us
        self.enter("optimizer")
        self.optimizer.step()
        self.enter("zero_grad")
        self.optimizer.zero_grad(set_to_none=True)
        self.finish()


class _NothingTrains(PhasePeaks):
    """What has no backward pass."""

    trainable: tuple[Any, ...] = ()
    backward_began_us: float | None = None
    gradients_began_us: float | None = None

    def __init__(self, model: Any, cell: Cell) -> None:
        super().__init__()
        self.model, self.cell = model, cell
        self.batches: list[dict[str, Any]] = []


class Evaluation(_NothingTrains):
    """One batch of an evaluation, and the peak of its only phase."""

    def tensors(self) -> dict[str, Any]:
        """Nothing is there before a batch but weights and inputs."""
        return {}

    def run(self) -> None:
        """Forward and loss."""
        self.start("forward")
        for inputs in self.batches:
            evaluate(self.model, inputs, on_phase=self.enter)
        self.finish()


class Call(_NothingTrains):
    """One call that generates, and the peaks of its phases; each has a prompt of its own, which is encoded anew."""

    def __init__(self, model: Any, cell: Cell) -> None:
        super().__init__(model, cell)
        self._num_calls = 0

    def tensors(self) -> dict[str, Any]:
        """What predicts, as far as it is on the device already."""
        world_model = self.model.model._world_model
        parts = [] if world_model is None else [world_model.pipeline.transformer, world_model._text_encoder]
        return {"parameters": [tensor for part in parts if part is not None for tensor in part.parameters()]}

    def run(self) -> None:
        """Look ahead, where the cell says so, and generate."""
        self._num_calls += 1
        changes: dict[str, Any] = (
            {"prompt": f"What happens in call {self._num_calls}."} if self.cell.task == ROLLOUT else {}
        )
        self.start(CALL_PHASES[self.cell.task][0])
        run_call(self.model, self.batches[0], self.cell, on_phase=self.enter, **changes)
        self.finish()


MeasuredRun = Step | Evaluation | Call


def run_of(model: Any, cell: Cell) -> MeasuredRun:
    """What a cell does, made ready; its batches are the caller's to set."""
    if cell.task in STEPS:
        return Evaluation(model, cell) if cell.task == EVALUATE else Step(model, cell)
    return Call(model, cell)
