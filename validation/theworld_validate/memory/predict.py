"""GPU memory of a training step, or of a call that generates, without a GPU and without weights.

In: a `TheWorldConfig` and cells. Out: a `Predicted` each. The real model code runs once on tensors without data; the
births and deaths of its storages are replayed, three steps or two calls long, through a model of the CUDA caching
allocator.
"""

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from theworld.pipeline_geometries import PipelineGeometry
from theworld_validate.memory import family_steps
from theworld_validate.memory.adapters import modules_restored
from theworld_validate.memory.allocator import OutOfMemoryError
from theworld_validate.memory.cell_inputs import check_length, count_labels, input_bytes, make_inputs
from theworld_validate.memory.cell_steps import evaluate, forward_and_backward, prepare_model
from theworld_validate.memory.cells import EVALUATE, FREEZES, FSDP2, NF4, ROLLOUT, STEPS, Cell
from theworld_validate.memory.offload import activations_traced, host_bytes, shards_traced, split_learning, together
from theworld_validate.memory.optimizers import Learning, find_embeddings
from theworld_validate.memory.outcomes import Predicted
from theworld_validate.memory.replay import StepTrace, Traced, replay
from theworld_validate.memory.replication import layouts_may_differ, replicate_traced
from theworld_validate.memory.sharding import gathers_seen, process_group, shard, shard_of
from theworld_validate.results import InputError


class Predictor:
    """Predicts cells of one model; what cells have in common is built once.

    Args:
        config: a `TheWorldConfig` with a world branch, or the config of a model of another family.
        pipeline: what predicts; None where no cell looks ahead.

    Raises:
        InputError: if no model can be built from the config.
    """

    def __init__(self, config: Any, pipeline: PipelineGeometry | None = None) -> None:
        self._config, self._pipeline = config, pipeline
        self._models: dict[bool, tuple[Any, Any]] = {}
        self._traces: dict[Cell, Traced] = {}
        self._sizes: list[int] | None = None

    def predict(self, cell: Cell, *, capacity_bytes: int | None = None, expandable_segments: bool = False) -> Predicted:
        """Predict one cell.

        Args:
            capacity_bytes: what the process may reserve; None for no limit.
            expandable_segments: as PYTORCH_CUDA_ALLOC_CONF sets it.

        Raises:
            InputError: if the prompt is longer than the model's positions.
        """
        started = time.perf_counter()
        least = self.least_bytes(cell)
        if capacity_bytes is not None and least > capacity_bytes:
            return Predicted(cell=cell, least_bytes=least, fits=False, seconds=time.perf_counter() - started)
        trace = self.trace(cell)
        fits = None if capacity_bytes is None else True
        try:
            seen = replay(trace, capacity=capacity_bytes, expandable=expandable_segments)
        except OutOfMemoryError:
            fits, seen = False, replay(trace, capacity=None, expandable=expandable_segments)
        return Predicted(
            cell=cell,
            least_bytes=least,
            peak_allocated_bytes=seen.peak_allocated,
            peak_reserved_bytes=seen.peak_reserved,
            phase_peaks_bytes=seen.phase_peaks,
            split_bytes=seen.split,
            owners=seen.owners,
            timeline_bytes=seen.timeline,
            host_bytes=trace.host_bytes if isinstance(trace, StepTrace) else None,
            fits=fits,
            seconds=time.perf_counter() - started,
        )

    def least_bytes(self, cell: Cell) -> int:
        """Bytes of parameters and inputs, which are there whatever a step does; no step is traced for it.

        What predicts is part of it: all of it, or with offload its largest part.

        Raises:
            InputError: if the prompt is longer than the model's positions.
        """
        self._check_length(cell)
        mode, model = self._model(replace(cell, num_gpus=1, strategy=FSDP2))
        with mode, modules_restored(model):
            if cell.adapter is not None or cell.quantization == NF4:
                _prepare(model, cell)
            parameters = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        if cell.is_sharded:
            parameters = 0 if cell.offload_optimizer else parameters // cell.num_gpus
        if cell.task == ROLLOUT:
            sizes = self._part_bytes()
            parameters += max(sizes) if cell.offload else sum(sizes)
        return parameters + cell.accumulation * input_bytes(cell, self._config)

    def _part_bytes(self) -> list[int]:
        """Bytes of the transformer and of the text encoder, in bfloat16."""
        if self._sizes is None:
            from theworld.pipeline_geometries import build_on_meta

            assert self._pipeline is not None
            parts = build_on_meta(self._pipeline).values()
            self._sizes = [2 * sum(parameter.numel() for parameter in part.parameters()) for part in parts]
        return self._sizes

    def trace(self, cell: Cell) -> Traced:
        """Run the model's code for one cell on tensors without data."""
        if cell in self._traces:
            return self._traces[cell]
        self._check_length(cell)
        mode, model = self._model(cell)
        with (
            process_group(cell.num_gpus, device_type="cpu") as mesh,
            mode,
            tensors_without_data(),
            _repeatably(),
        ):
            try:
                if cell.task in STEPS:
                    with modules_restored(model):
                        self._traces[cell] = _trace(model, self._config, cell, mesh)
                    _back_to_bfloat16(model)
                else:
                    from theworld_validate.memory.call_trace import trace_calls

                    self._traces[cell] = trace_calls(model, self._config, cell, self._pipeline)
            except BaseException:
                self._models.clear()  # it may be left in the middle of a step, or in float32
                raise
        return self._traces[cell]

    def _check_length(self, cell: Cell) -> None:
        try:
            check_length(cell, self._config)
        except ValueError as error:
            raise InputError(str(error)) from error
        if cell.task == ROLLOUT:
            if self._pipeline is None:
                raise InputError("there is nothing that predicts; name a whole Cosmos repository with --cosmos")
            shape = self._pipeline.transformer_config
            makes, takes = self._config.world_config.latent_channels, shape["in_channels"] - 1
            if makes != takes:
                raise InputError(f"the VAE makes {makes} latent channels, and what predicts takes {takes}")

    def _model(self, cell: Cell) -> tuple[Any, Any]:
        from theworld.freezing import has_temporal_embedding
        from theworld_validate.subjects.empty_models import build_without_data

        if not cell.is_the_worlds:
            if False not in self._models:
                self._models[False] = family_steps.build_without_data(self._config)
            return self._models[False]
        has_temporal = has_temporal_embedding(FREEZES[cell.preset])
        freeze = "projection" if has_temporal else "documented"
        if cell.num_gpus > 1:  # sharding and replicating change a model for good
            return build_without_data(self._config, freeze=freeze)
        if has_temporal not in self._models:
            self._models[has_temporal] = build_without_data(self._config, freeze=freeze)
        return self._models[has_temporal]


@contextlib.contextmanager
def tensors_without_data() -> Iterator[None]:
    """Switch off the model's checks of values: there are none to look at; no row holds several packed texts."""
    from transformers import masking_utils

    from theworld import world_encoder
    from theworld_validate.memory.cuda_routes import attention_as_on_cuda

    environment = {"TRANSFORMERS_DISABLE_TORCH_CHECK": "1"}
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(world_encoder, "check_frames"),
        mock.patch.object(masking_utils, "find_packed_sequence_indices", return_value=None),
        attention_as_on_cuda(),
    ):
        yield


@contextlib.contextmanager
def _repeatably() -> Iterator[None]:
    """Have the same cell give the same bytes: storages go with their last reference, not at a collector's whim."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _prepare(model: Any, cell: Cell) -> None:
    custom_layers: dict[type, type] = {}
    if cell.quantization == NF4:
        from theworld_validate.memory.quantised import quantise

        custom_layers = quantise(model, is_the_worlds=cell.is_the_worlds)
    prepare_model(model, cell, custom_layers=custom_layers)


def _trace(model: Any, config: Any, cell: Cell, mesh: Any) -> StepTrace:
    import torch

    from theworld.levers.master_weights import use_master_weights
    from theworld_validate.memory.cuda_routes import scratch_bytes
    from theworld_validate.memory.tracer import StorageTracer, modules_named

    _prepare(model, cell)
    if cell.precision == "mixed":
        use_master_weights(model)
    if cell.is_sharded:
        shard(model, mesh, cell)
    # FSDP2 casts what it gathers, and has no autocast.
    is_autocast = cell.precision == "mixed" and not cell.is_sharded
    autocast = torch.autocast("cpu", torch.bfloat16) if is_autocast else contextlib.nullcontext()
    batches = [
        make_inputs(cell, config, device="cpu", make=lambda shape, dtype: torch.zeros(shape, dtype=dtype))
        for _ in range(cell.accumulation)
    ]
    tracer = StorageTracer(scratch=scratch_bytes, num_nonzero=count_labels(cell))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tracer.adopt(shard_of(tensor), "parameters", name)
    for inputs in batches:
        for name, tensor in inputs.items():
            tracer.adopt(tensor, "inputs", name)
    is_replicated = mesh is not None and not cell.is_sharded
    callee = replicate_traced(model, cell, tracer) if is_replicated else model

    def enter(phase: str) -> None:
        tracer.phase = phase

    with (
        layouts_may_differ(),
        shards_traced(cell, model, tracer),
        tracer,
        modules_named(tracer, model),
        gathers_seen(tracer) as gathered,
    ):
        # All batches after the second find gradients, as the second does, and ask for the same.
        for inputs in batches[:2]:
            if cell.task == EVALUATE:
                evaluate(model, inputs, on_phase=enter)
            else:
                forward = together(autocast, activations_traced(cell, tracer))
                forward_and_backward(callee, inputs, on_phase=enter, autocast=forward)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = {tracer.number_of(shard_of(p.grad)) for p in trainable if p.grad is not None}
    embeddings = find_embeddings(model)
    learning = [
        Learning(elements=shard_of(p).numel(), item_bytes=p.element_size(), is_embedding=id(p) in embeddings)
        for p in trainable
        if p.grad is not None
    ]
    stepped, stepped_on_host = split_learning(cell, learning)
    host = host_bytes(cell, tracer.trace, stepped_on_host)
    on_host = tracer.trace.on_host
    events = tuple(event for event in tracer.trace.events if event.storage not in on_host)
    persistent = tuple(one for one in tracer.trace.persistent.items() if one[0] not in on_host)
    for parameter in model.parameters():
        parameter.grad = None
    return StepTrace(
        persistent=persistent,
        events=events,
        gradients=frozenset(gradients),
        gathered=frozenset(gathered),
        learning=stepped,
        optimizer=cell.optimizer,
        host_bytes=host,
    )


def _back_to_bfloat16(model: Any) -> None:
    import torch

    for parameter in model.parameters():
        if parameter.dtype == torch.float32:
            parameter.data = parameter.data.bfloat16()
