"""One rank of several: predictions against two real processes on gloo, and what is offloaded against real tensors."""

import json
import multiprocessing
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from tests.conftest import load_world
from tests.theworld.test_distributed import free_port
from tests.theworld.training.processes import PRELOAD
from tests.theworld_validate.memory import two_ranks
from tests.theworld_validate.memory.test_predict import CPU_SCRATCH_BYTES
from theworld.synthetic import SyntheticCheckpoint
from theworld.training import sharding as trained_in_shards
from theworld_validate.memory import predict, replication
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import prepare_model
from theworld_validate.memory.cells import Cell, build_matrix
from theworld_validate.memory.cuda_routes import attention_as_on_cuda
from theworld_validate.memory.offload import KEPT_ELEMENTS
from theworld_validate.memory.predict import Predictor
from theworld_validate.memory.replay import StepTrace
from theworld_validate.memory.tracer import StorageTracer
from theworld_validate.subjects.empty_models import blueprint_of_size

SHORT: dict[str, Any] = {"preset": "full", "text_tokens": 16, "world_tokens": 16}
SHARDED = Cell(**SHORT, num_gpus=2)
REPLICATED = Cell(**SHORT | {"preset": "language"}, num_gpus=2, strategy="ddp", checkpointing=True)
OFFLOADED = replace(SHARDED, offload_optimizer=True)
# Without checkpointing FSDP2's peak comes before the first sum, of which gloo's own threads keep the inputs a while.
CELLS = (SHARDED, replace(SHARDED, precision="mixed"), REPLICATED)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(blueprint_of_size("tiny"))


@pytest.fixture(scope="module")
def real(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, dict[str, Any]]:
    """What the first of two ranks found of each cell."""
    folder, cells = tmp_path_factory.mktemp("ranks"), (*CELLS, OFFLOADED)
    (folder / "cells.json").write_text(json.dumps([asdict(cell) for cell in cells]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    port = free_port()
    both: list[Any] = [context.Process(target=two_ranks.main, args=(rank, port, str(folder))) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    return dict(zip(cells, json.loads((folder / "0.json").read_text()), strict=True))


def traced(predictor: Predictor, cell: Cell) -> StepTrace:
    trace = predictor.trace(cell)
    assert isinstance(trace, StepTrace)
    return trace


def peak(trace: StepTrace) -> int:
    held = most = 0
    for event in trace.events:
        held += event.num_bytes
        most = max(most, held)
    return most


def buckets(trace: StepTrace) -> list[int]:
    return [size for _, (kind, size, _) in trace.persistent if kind == "gradients"]


def near(num_bytes: int) -> Any:
    return pytest.approx(num_bytes, rel=2e-3, abs=CPU_SCRATCH_BYTES)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_it_is_what_a_real_rank_allocates(predictor: Predictor, real: dict[Cell, Any], cell: Cell) -> None:
    assert peak(traced(predictor, cell)) == near(real[cell]["peak"])


def test_gathers_that_are_not_seen_would_show(
    predictor: Predictor, real: dict[Cell, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above can fail."""
    assert peak(traced(predictor, SHARDED)) == near(real[SHARDED]["peak"])
    monkeypatch.setattr(predict, "gathers_seen", lambda tracer: nullcontext(set()))
    assert peak(traced(Predictor(blueprint_of_size("tiny")), SHARDED)) != near(real[SHARDED]["peak"])


def test_gradients_are_summed_in_float32(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As theworld-train has it; FSDP2's own policy would sum bfloat16 ones as they are."""
    monkeypatch.setattr(trained_in_shards, "precision_policy", lambda dtype: MixedPrecisionPolicy())
    asked = [
        sum(event.num_bytes for event in traced(one, SHARDED).events if event.num_bytes > 0)
        for one in (predictor, Predictor(blueprint_of_size("tiny")))
    ]
    learning = sum(one.elements * one.item_bytes for one in traced(predictor, SHARDED).learning)
    assert asked[0] - asked[1] >= 2 * learning  # as much again for both ranks' sums


def test_buckets_are_those_of_a_real_rank(
    predictor: Predictor, real: dict[Cell, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trace = real[REPLICATED]["buckets"], traced(predictor, REPLICATED)
    assert len(found) > 1
    assert buckets(trace) == pytest.approx(found, rel=0.05)  # within a layer, gradients come in another order
    assert sum(buckets(trace)) == sum(found) == sum(one.elements * one.item_bytes for one in trace.learning)
    # What DDP has in its first step alone is one bucket of everything.
    monkeypatch.setattr(replication, "_buckets_as_rebuilt", nullcontext)
    assert len(buckets(traced(Predictor(blueprint_of_size("tiny")), REPLICATED))) == 1


def test_a_replica_has_its_gradients_twice_and_clones_outputs_to_look_for_unused_ones(predictor: Predictor) -> None:
    alone = predictor.predict(replace(REPLICATED, num_gpus=1, strategy="fsdp2"))
    replica = predictor.predict(REPLICATED)
    assert replica.phase_peaks_bytes["optimizer"] - alone.phase_peaks_bytes["optimizer"] >= sum(
        buckets(traced(predictor, REPLICATED))
    )
    clones = {
        preset: sum(event.operator == "clone" for event in traced(predictor, replace(REPLICATED, preset=preset)).events)
        for preset in ("language", "full")
    }
    assert clones["full"] > clones["language"]
    assert not torch.distributed.is_initialized()


def test_what_fsdp2_keeps_on_the_host_is_what_a_real_rank_keeps(
    predictor: Predictor, real: dict[Cell, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    offloaded, sharded = predictor.predict(OFFLOADED), predictor.predict(SHARDED)
    assert offloaded.host_bytes == real[OFFLOADED]["host"]
    assert sharded.host_bytes is None
    assert "optimizer_state" not in offloaded.split_bytes
    assert offloaded.split_bytes["parameters"] < sharded.split_bytes["parameters"]
    # Each shard comes to the device before it is gathered.
    brought = sum(event.operator == "clone" for event in traced(predictor, OFFLOADED).events)
    assert brought > sum(event.operator == "clone" for event in traced(predictor, SHARDED).events) + 100
    monkeypatch.setattr(StorageTracer, "put_on_host", lambda self, tensor: None)
    assert Predictor(blueprint_of_size("tiny")).predict(OFFLOADED).host_bytes != real[OFFLOADED]["host"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_offloaded_activations_are_what_autograd_saves(
    predictor: Predictor, shared_bfloat16: Any, checkpointing: bool
) -> None:
    """Counted by hooks around the same forward with real tensors, which `save_on_cpu` copies one by one."""
    cell = Cell(**SHORT, checkpointing=checkpointing, offload_activations=True)
    saved: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel() * tensor.itemsize)
        return tensor

    prepare_model(shared_bfloat16, cell)
    inputs = make_inputs(cell, shared_bfloat16.config, device="cpu")
    with attention_as_on_cuda(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        shared_bfloat16(**inputs, use_cache=False)
    found, kept = predictor.predict(cell), predictor.predict(replace(cell, offload_activations=False))
    assert found.host_bytes == pytest.approx(sum(saved), rel=2e-3)
    assert kept.host_bytes is None
    assert found.phase_peaks_bytes["forward"] < kept.phase_peaks_bytes["forward"]


@pytest.fixture(scope="module")
def shared_bfloat16(tiny: SyntheticCheckpoint) -> Any:
    return load_world(tiny, dtype=torch.bfloat16, world={})


def test_the_offloaded_optimizer_keeps_small_states_on_the_gpu(predictor: Predictor) -> None:
    """torchao's: a copy of each other parameter and of its gradient, and two states, on the host."""
    cell = Cell(**SHORT, offload_optimizer=True)
    plain, found = predictor.predict(replace(cell, offload_optimizer=False)), predictor.predict(cell)
    sizes = traced(predictor, plain.cell).learning
    large = sum(one.elements * one.item_bytes for one in sizes if one.elements >= KEPT_ELEMENTS)
    small = sum(one.elements * one.item_bytes for one in sizes if one.elements < KEPT_ELEMENTS)
    assert small
    assert found.host_bytes == 4 * large
    assert found.split_bytes["optimizer_state"] == 2 * small
    assert plain.split_bytes["optimizer_state"] == 2 * (small + large)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"strategy": ["ddp"]}, "strategy ddp is for several GPUs; ask for 2 or more, or leave it out"),
        (
            {"strategy": ["ddp"], "num_gpus": [2], "offload_optimizer": [True]},
            "for adamw on one GPU or under strategy fsdp2",
        ),
        ({"offload_optimizer": [True], "optimizer": ["adamw-8bit"]}, "offload_optimizer is for adamw"),
        ({"num_gpus": [2], "accumulation": [2]}, "accumulation are predicted on one GPU; leave --gpus out"),
        ({"strategy": ["zero3"]}, "no strategy is named 'zero3'; there are fsdp2, ddp"),
        ({"offload_activations": [1]}, "offload_activations must be true or false"),
        ({"task": ["generate"], "offload_optimizer": [True]}, "offload_optimizer is no part of the task generate"),
    ],
)
def test_what_no_rank_can_be_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_matrix(**choices)
