"""What is wrong with cells: over a budget, too large for a GPU, or ended by an error.

In: what was predicted or measured, and what it is held against. Out: findings.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from theworld_validate.memory.answers import Terms
from theworld_validate.memory.architectures import HOPPER
from theworld_validate.memory.budget import Budget, find_overruns
from theworld_validate.memory.cells import DDP, NF4, Cell
from theworld_validate.memory.gpus import Gpu
from theworld_validate.memory.outcomes import Measured, Predicted, Prediction
from theworld_validate.rendering.tables import bytes_apart
from theworld_validate.results import Finding


def judge_predicted(predictions: Sequence[Prediction], terms: Terms) -> list[Finding]:
    """Findings of predictions: cells that raised, are over their budget, or do not fit the GPU."""
    findings = [_not_predicted(one.cell, one.error) for one in predictions if one.error is not None]
    findings += find_overruns(terms.budgets, [result for one in predictions for result in one.results])
    findings += warn_of_kernels(terms.gpu)
    if terms.gpu is not None:
        findings += _warn_of_kinds([one.cell for one in predictions])
        for prediction in predictions:
            # Of a sweep the smallest size must fit: what comes after it is there to find the largest.
            for result in prediction.results[:1]:
                if not result.fits:
                    findings.append(_does_not_fit(prediction, result, terms))
    return findings


def warn_of_kernels(gpu: Gpu | None) -> list[Finding]:
    """Say that predictions were never held against a GPU of this architecture, and which kernels are others there."""
    if gpu is None or gpu.architecture is None or gpu.architecture.is_measured:
        return []
    there = gpu.architecture
    differs = [f"attention goes to {there.attention}"] if there.attention != HOPPER.attention else []
    if there.workspace_bytes != HOPPER.workspace_bytes:
        differs.append(f"cuBLAS has {there.workspace_bytes / 2**20:.1f} MiB of workspace a thread in place of 32")
    return [
        Finding(
            code="memory.kernels_unmeasured",
            severity="warning",
            location=gpu.title,
            message=f"{gpu.title}: predicted with the kernels of {HOPPER.title}; none of {there.title} was measured",
            cause="; ".join(differs),
            remedy="theworld-validate memory measure on such a GPU says what it takes there",
        )
    ]


def _warn_of_kinds(cells: Sequence[Cell]) -> Iterator[Finding]:
    """Say of which cells no like was ever measured on a GPU, so that a fit is the libraries' code alone."""
    kinds = {
        "torchao's optimizer on the host": [cell for cell in cells if cell.offload_optimizer and cell.num_gpus == 1],
        "more than two GPUs": [cell for cell in cells if cell.num_gpus > 2],
        "DDP with activations on the host": [
            cell for cell in cells if cell.strategy == DDP and cell.offload_activations
        ],
        "adapters, 4 bit or the 8-bit optimizer of another family": [
            cell
            for cell in cells
            if not cell.is_the_worlds and (cell.adapter or cell.quantization == NF4 or cell.optimizer != "adamw")
        ],
    }
    for kind, found in kinds.items():
        if found:
            yield Finding(
                code="memory.kind_unmeasured",
                severity="warning",
                location=found[0].title,
                message=f"{kind}: predicted after the libraries' code, and never measured on a GPU",
                cause=f"{len(found):,} of the configurations are of this kind",
                remedy="measure it: theworld-validate memory measure on one GPU, benchmarks/rank_memory.py on several",
            )


def judge_measured(results: Sequence[Measured], budgets: Sequence[Budget]) -> list[Finding]:
    """Findings of measurements, given in the order in which they were made."""
    findings = [finding for result in results for finding in _ended_early(result)]
    return findings + find_overruns(budgets, results) + _moved_floors(results)


def _not_predicted(cell: Cell, error: str) -> Finding:
    return Finding(
        code="memory.not_predicted",
        location=cell.title,
        message=f"{cell.title} could not be predicted: {error}",
        cause="the model's own code, or the prediction, fails on this configuration; the others stand",
        remedy="predict this configuration alone with --debug, and report it",
    )


def _does_not_fit(prediction: Prediction, result: Predicted, terms: Terms) -> Finding:
    assert terms.gpu is not None
    gpu, title = terms.gpu, result.cell.title
    if result.peak_reserved_bytes is None:
        takes, left = bytes_apart(result.least_bytes, gpu.capacity_bytes)
        taken = f"its parameters and inputs alone take {takes}"
        cause = "what is there before the first step is more than the GPU has"
    else:
        takes, left = bytes_apart(result.peak_reserved_bytes, gpu.capacity_bytes)
        taken = f"it takes {takes}"
        cause = f"the most is taken by {max(result.split_bytes, key=lambda kind: result.split_bytes[kind])}"
    ways = [way.title for way in prediction.ways]
    remedy = f"it fits with {'; or with '.join(ways)}" if ways else "no lever, nor pair of them, makes it fit"
    if terms.sweep_over is not None:
        remedy = f"start the sweep over {terms.sweep_over} at a smaller size, or name a larger GPU"
    return Finding(
        code="memory.does_not_fit",
        location=title,
        message=f"{title} does not fit {gpu.title}: {taken}, and {left} can be reserved ({gpu.about_capacity})",
        expected=gpu.capacity_bytes,
        actual=result.peak_reserved_bytes,
        cause=cause,
        remedy=remedy,
        field="peak_reserved_bytes",
    )


def _ended_early(result: Measured) -> Iterator[Finding]:
    title = result.cell.title
    if result.out_of_memory is not None:
        yield Finding(
            code="memory.out_of_memory",
            severity="warning",
            location=title,
            message=f"{title} ran out of memory in the phase {result.out_of_memory}",
            cause="it takes more than this GPU has",
            remedy="theworld-validate memory predict --gpu NAME says what would make it fit",
        )
    if result.error is not None:
        yield Finding(
            code="memory.not_measured",
            location=title,
            message=f"{title} raised {result.error}",
            cause="the model's own code, or the device, fails on this configuration; the others stand",
            remedy="measure this configuration alone; after an error of the device those after it fail too",
        )


def _moved_floors(results: Sequence[Measured]) -> list[Finding]:
    """Whether a cell found the GPU as the one before it did; a cell's own are master weights, and adapters."""
    floors = [
        (result.cell, result.floor_bytes)
        for result in results
        if result.cell.precision == "bfloat16" and result.cell.adapter is None and result.floor_bytes is not None
    ]
    return [
        Finding(
            code="memory.floor_moved",
            severity="warning",
            location=cell.title,
            message=f"{cell.title} began with {floor - before:+,} bytes against the configuration before it",
            expected=before,
            actual=floor,
            cause="something of an earlier configuration, or a library's workspace, is still on the GPU",
            remedy="measure this configuration in a process of its own",
            field="floor_bytes",
        )
        for (_, before), (cell, floor) in pairwise(floors)
        if floor != before
    ]
