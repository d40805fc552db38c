"""GPU memory of real training steps, and of calls that generate: one process, one model, every cell of a matrix.

In: a loaded model on a CUDA device, and cells. Out: a `Measured` each: peaks from the allocator's own counters, and
who owns every byte at the peak from its own history. Out of memory is a result.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from theworld_validate.memory.adapters import modules_restored
from theworld_validate.memory.cell_inputs import input_bytes
from theworld_validate.memory.cell_steps import prepare_model
from theworld_validate.memory.cells import GENERATE, ROLLOUT, Cell
from theworld_validate.memory.history import bytes_kept_for_backward, split_peak
from theworld_validate.memory.measured_steps import MeasuredRun, make_batches, run_of
from theworld_validate.memory.outcomes import Measured, Owner
from theworld_validate.memory.quantised import tensors_beside
from theworld_validate.results import InputError

NUM_STEPS = 3  # or calls: the second has optimizer states, and its history is recorded; the third is timed


def measure_cells(
    model: Any,
    cells: Sequence[Cell],
    *,
    snapshots: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Iterator[Measured]:
    """Measure every cell, one after the other, on the model's device; what a cell raises is its own result.

    Args:
        model: in bfloat16: a `TheWorld` with its branch on, or of another family; its weights are trained a little.
        snapshots: a folder for one snapshot a cell, which PyTorch's memory_viz opens; none if None.

    Yields:
        Results in the order in which cells are run: master weights move parameters to other blocks, so those that
        leave them alone come first.

    Raises:
        InputError: if the folder for snapshots cannot be made.
    """
    if snapshots is not None:
        try:
            snapshots.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--snapshots {snapshots}: {error.strerror}; name a folder") from error
    _warm_up(model, cells)
    for cell in sorted(cells, key=lambda cell: cell.precision == "mixed"):
        progress(cell.title)
        yield _measure_or_say(model, cell, snapshots)


def _measure_or_say(model: Any, cell: Cell, snapshots: Path | None) -> Measured:
    import torch

    from theworld.checkpoints.error_text import one_line

    try:
        with _precision(model, cell):
            return _measure(model, cell, snapshots)
    except torch.OutOfMemoryError:
        return Measured(cell=cell, out_of_memory="preparing")
    except InputError:
        raise
    except Exception as error:
        return Measured(cell=cell, error=one_line(f"{type(error).__name__}: {error}"))


def _warm_up(model: Any, cells: Sequence[Cell]) -> None:
    """Have the libraries take their workspaces, so that they are part of every cell's floor.

    One step of every configuration, at the first of its workloads: what a library keeps depends on its kernels. Calls
    do not look ahead here: what predicts is loaded where it is measured.
    """

    plain = [_without_rollout(replace(cell, precision="bfloat16")) for cell in reversed(cells)]
    for cell in {(cell.name, cell.checkpointing, cell.chunked_loss): cell for cell in plain}.values():
        # What a cell raises here it raises again, where it is its result.
        with contextlib.suppress(Exception), _precision(model, cell):
            _check_inputs_fit(cell, model.config)
            step = run_of(model, cell)
            step.batches = make_batches(model, cell)
            step.run()


def _without_rollout(cell: Cell) -> Cell:
    if cell.task != ROLLOUT:
        return cell
    return Cell(
        task=GENERATE,
        world_tokens=cell.world_tokens,
        batch=cell.batch,
        text_tokens=cell.text_tokens,
        frames=cell.frames,
        new_tokens=cell.new_tokens,
    )


@contextlib.contextmanager
def _precision(model: Any, cell: Cell) -> Any:
    """Prepare the model for a cell, and take it back to bfloat16 and to no gradients afterwards."""
    import torch

    from theworld.levers.master_weights import use_master_weights

    try:
        with modules_restored(model):
            prepare_model(model, cell)
            if cell.precision == "mixed":
                use_master_weights(model)
            yield
    finally:
        for parameter in model.parameters():
            parameter.grad = None
            if parameter.is_floating_point() and parameter.dtype != torch.bfloat16:
                parameter.data = parameter.data.bfloat16()
        if cell.task == ROLLOUT:
            model.release_world_model()
        gc.collect()
        torch.cuda.empty_cache()


def _measure(model: Any, cell: Cell, snapshots: Path | None) -> Measured:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    floor = torch.cuda.memory_allocated()
    step, seen = run_of(model, cell), _Seen()
    out_of_memory: str | None = None
    try:
        _check_inputs_fit(cell, model.config)
        step.batches = make_batches(model, cell)
        for number in range(NUM_STEPS):
            if number == 1:
                with _recorded_history(seen, step, snapshots):
                    step.run()
            else:
                started = time.perf_counter()
                step.run()
                seen.step_seconds = time.perf_counter() - started
    except torch.OutOfMemoryError:
        seen, out_of_memory = _Seen(), step.phase
    free, total = torch.cuda.mem_get_info()
    return Measured(
        cell=cell,
        floor_bytes=floor,
        peak_allocated_bytes=None if out_of_memory else max(step.peaks.values()),
        peak_reserved_bytes=None if out_of_memory else step.peak_reserved,
        driver_bytes=total - free,
        phase_peaks_bytes=dict(step.last_peaks),
        split_bytes=seen.split_bytes,
        owners=seen.owners,
        activation_bytes=seen.activation_bytes,
        step_seconds=seen.step_seconds,
        out_of_memory=out_of_memory,
    )


@dataclass(slots=True)
class _Seen:
    """What is learned between the steps of a cell; the fields are those of `Measured`."""

    split_bytes: dict[str, int] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    activation_bytes: int | None = None
    step_seconds: float | None = None


def _check_inputs_fit(cell: Cell, config: Any) -> None:
    """Run out of memory before the inputs are made on the host, where they are more than the whole GPU."""
    import torch

    _, total = torch.cuda.mem_get_info()
    if (needed := cell.accumulation * input_bytes(cell, config)) > total:
        raise torch.OutOfMemoryError(f"the inputs alone take {needed:,} bytes")


@contextlib.contextmanager
def _recorded_history(seen: _Seen, step: MeasuredRun, snapshots: Path | None) -> Any:
    """Record the allocator's history of one step, and say who owned what at its peak."""
    import torch

    gradients: list[int] = []
    handles = [
        parameter.register_post_accumulate_grad_hook(lambda p: gradients.append(p.grad.untyped_storage().data_ptr()))
        for parameter in step.trainable
    ]
    known = {
        "parameters": _addresses((*step.model.parameters(), *tensors_beside(step.model))),
        "buffers": _addresses(step.model.buffers()),
        "inputs": _addresses(tensor for inputs in step.batches for tensor in inputs.values()),
    }
    for kind, tensors in step.tensors().items():
        known[kind] = known.get(kind, set()) | _addresses(tensors)
    torch.cuda.memory._record_memory_history(enabled="all", context="alloc", stacks="python", max_entries=1_000_000)
    before = torch.cuda.memory_snapshot()
    try:
        yield
        snapshot = torch.cuda.memory._snapshot()
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
        for handle in handles:
            handle.remove()
    seen.split_bytes, seen.owners = split_peak(
        before,
        snapshot,
        known=known,
        gradients=gradients,
        backward_began_us=step.backward_began_us,
        gradients_began_us=step.gradients_began_us,
    )
    seen.split_bytes["rounding"] = max(step.last_peaks.values()) - sum(seen.split_bytes.values())
    if step.backward_began_us is not None:
        seen.activation_bytes = bytes_kept_for_backward(
            snapshot,
            backward_began_us=step.backward_began_us,
            forward_began_us=step.phase_started_us["forward"],
        )
    if snapshots is not None:
        import pickle

        cell = step.cell
        name = f"{cell.name}-{cell.world_tokens}-{cell.text_tokens}-{cell.batch}".replace(" + ", "-").replace(" ", "-")
        (snapshots / f"{name}.pickle").write_bytes(pickle.dumps(snapshot))


def _addresses(tensors: Any) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.is_cuda}
