"""A call that generates, traced on tensors without data.

In: an empty model and a cell. Out: a `CallTrace`: what the call asks for and gives back, of a first call and of a later
one. What predicts comes to the device when it is first used, as if from the CPU, and goes back where it is offloaded.
Values that decide the way are answered here: nothing is padded, every number is finite, and the last token is the last.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import torch

from theworld.pipeline_geometries import PipelineGeometry
from theworld_validate.memory.cell_inputs import make_inputs, prompt_length
from theworld_validate.memory.cell_steps import prepare_model
from theworld_validate.memory.cells import ROLLOUT, Cell
from theworld_validate.memory.cuda_routes import scratch_bytes
from theworld_validate.memory.decoding import NUM_TRACED, DecodedCall, lengthen
from theworld_validate.memory.inference import run_call
from theworld_validate.memory.replay import CallTrace
from theworld_validate.memory.tracer import StorageTracer, modules_named

_MOST_DENOISING_STEPS = 3  # that are traced: the scheduler of Predict 2.5 remembers two, and all later ones are alike
_NAME = "(what predicts)"
_NUMBERS_A_CALL = 1 << 40  # of storages that are not traced, far above those that are


def trace_calls(model: Any, config: Any, cell: Cell, pipeline: PipelineGeometry | None) -> CallTrace:
    """Run the model's code for one cell; to be called inside its `FakeTensorMode`.

    Args:
        pipeline: what predicts; None for a cell that does not look ahead.
    """
    num_decoded = cell.new_tokens - 1  # the prompt gives the first
    window = getattr(config.text_config, "sliding_window", None) or 0
    to_fill = max(window - prompt_length(cell, config), 0)
    trace = _trace(model, config, cell, pipeline, num_traced=min(num_decoded, to_fill + NUM_TRACED))
    if trace is None:  # the steps are not alike
        trace = _trace(model, config, cell, pipeline, num_traced=num_decoded)
    assert trace is not None
    return trace


def _trace(
    model: Any, config: Any, cell: Cell, pipeline: PipelineGeometry | None, *, num_traced: int
) -> CallTrace | None:
    """Trace so many decoded tokens, and make the others from them; None if they do not say what the others are."""
    prepare_model(model, cell)
    inputs = make_inputs(cell, config, device="cpu", make=lambda shape, dtype: torch.zeros(shape, dtype=dtype))
    call = _Call(cell=cell, num_forwards=1 + num_traced)
    tracer = call.tracer = StorageTracer(scratch=scratch_bytes, item=call.item)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tracer.adopt(tensor, "parameters", name)
    for name, tensor in inputs.items():
        tracer.adopt(tensor, "inputs", name)
    denoising_steps = min(cell.denoising_steps, _MOST_DENOISING_STEPS)
    traced = replace(cell, new_tokens=1 + num_traced, denoising_steps=denoising_steps)
    num_more = cell.new_tokens - traced.new_tokens
    calls: list[DecodedCall] = []
    moved: set[int] = set()
    with ExitStack() as stack:
        changes: list[dict[str, Any]] = [{}]
        if cell.task == ROLLOUT:
            assert pipeline is not None
            stack.enter_context(_empty_world_model(model, pipeline, tracer, moved))
            # The first call loads what predicts; a later one has another prompt.
            prompts = ("What happens first.", "What happens next.")
            changes = [{"cosmos_model_name_or_path": _NAME, "prompt": prompt} for prompt in prompts]
        stack.enter_context(_values_known(call, denoising_steps))
        stack.enter_context(tracer)
        stack.enter_context(modules_named(tracer, model))
        for number, change in enumerate(changes, start=1):
            call.begin()
            run_call(
                model,
                inputs,
                traced,
                on_phase=call.enter,
                on_forward=call.mark,
                on_cache=call.remember,
                **change,
            )
            made: DecodedCall | None = DecodedCall(events=call.events, cached=call.cached)
            if num_more:
                made = lengthen(
                    call.events, call.starts, call.cached, num_more=num_more, first_number=number * _NUMBERS_A_CALL
                )
            if made is None:
                return None
            calls.append(made)
    return CallTrace(
        persistent=tuple(tracer.trace.persistent.items()),
        calls=tuple(tuple(one.events) for one in calls),
        cached=frozenset().union(*(one.cached for one in calls)),
        moved=frozenset(moved),
    )


@dataclass(slots=True, kw_only=True)
class _Call:
    """One call as it is traced: its events, where tokens begin, what the cache held, and values that are not there."""

    cell: Cell
    num_forwards: int
    tracer: Any = None
    starts: list[int] = field(default_factory=list)
    cached: set[int] = field(default_factory=set)
    _first: int = 0
    _num_done: int = 0

    def begin(self) -> None:
        self._first, self._num_done = len(self.tracer.trace.events), 0
        self.starts, self.cached = [], set()

    @property
    def events(self) -> list[Any]:
        return self.tracer.trace.events[self._first :]

    def enter(self, phase: str) -> None:
        self.tracer.phase = phase
        # The scheduler looks up one step; the prompt's world tokens are those of all steps of all rows.
        self.tracer.num_nonzero = self.cell.batch * self.cell.num_world_steps if phase == "prefill" else 1

    def mark(self) -> None:
        self._num_done += 1
        if self._num_done > 1:
            self.starts.append(len(self.tracer.trace.events) - self._first)

    def remember(self, cache: Any) -> None:
        for layer in cache.layers:
            self.cached |= {self.tracer.number_of(layer.keys), self.tracer.number_of(layer.values)}

    def is_whole(self, _mask: Any = None) -> bool:
        """Whether all of something holds: nothing is padded and all is finite, but for a text, which is padded."""
        return self.tracer.phase != "text"

    def item(self, tensor: Any) -> Any:
        """What a tensor of one element holds."""
        if tensor.dtype == torch.bool:
            if getattr(tensor, "_made_by", "") == "all":
                return self.is_whole()
            return self._num_done >= self.num_forwards
        if tensor.is_floating_point():
            return 0.0
        return self.cell.num_observed_steps if self.tracer.phase == "encode" else 0


@contextmanager
def _values_known(call: _Call, denoising_steps: int) -> Iterator[None]:
    """Answer what is asked of values: the prompt has no padding, and the text for the text encoder has."""
    from transformers import masking_utils

    from theworld.cosmos_pipelines import LatentPredict2

    with (
        mock.patch.object(masking_utils, "fast_all", call.is_whole, create=True),
        mock.patch.object(masking_utils, "is_tracing", return_value=False, create=True),
        mock.patch.object(LatentPredict2, "is_done_after", lambda self, step: step >= denoising_steps - 2),
    ):
        yield


@contextmanager
def _empty_world_model(
    model: Any, pipeline: PipelineGeometry, tracer: StorageTracer, moved: set[int]
) -> Iterator[None]:
    """Give a model a world model without data, whose parts are seen to come and go."""
    from theworld import world_rollout
    from theworld_validate.subjects.empty_pipeline import EmptyParts

    here: list[Any] = []
    with ExitStack() as names:

        def tensors_of(part: Any) -> list[Any]:
            return [*part.parameters(), *part.buffers()]

        def bring(part: Any, _device: Any) -> None:
            if any(part is one for one in here):
                return
            here.append(part)
            names.enter_context(modules_named(tracer, part))
            tracer.module = type(part).__name__
            moved.update(tracer.move_in(tensor, "to the device") for tensor in tensors_of(part))

        def put_away(part: Any) -> None:
            here[:] = [one for one in here if one is not part]
            for tensor in tensors_of(part):
                tracer.move_out(tensor)

        world_model = world_rollout.CosmosWorldModel(
            _NAME, dict(model.world_encoder.vae.config), torch.bfloat16, parts=EmptyParts(pipeline)
        )
        model.model._world_model = world_model
        try:
            with (
                mock.patch.object(world_rollout, "bring", bring),
                mock.patch.object(world_rollout, "put_away", put_away),
            ):
                yield
        finally:
            model.model._world_model = None
