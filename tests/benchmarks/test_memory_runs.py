"""The measurement of runs: its loop at the tiny size on the CPU, which has no counters, and its comparison."""

from dataclasses import replace

import pytest
import torch

from benchmarks.memory_runs import MARGIN, Measurement, compare, list_runs, run_steps
from tests.conftest import load_world
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory.cells import Cell

MEASURED = Measurement(
    configuration="projection",
    expandable=False,
    limit_bytes=None,
    num_steps=3,
    out_of_memory_step=None,
    retries=0,
    peak_allocated_bytes=100,
    peak_reserved_bytes=200,
)
PREDICTED = {"peak_allocated_bytes": 101, "peak_reserved_bytes": 190, "least_bytes": 150}


def test_the_loop_trains_a_step_of_each_length(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_world(tiny, dtype=torch.float32, world={})
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    before = model.model.world_projection.linear.weight.detach().clone()
    found = run_steps(model, Cell(world_tokens=16), [5, 9])
    assert [length[1] for length in seen] == [seen[0][1], seen[0][1] + 4]
    assert (found.num_steps, found.out_of_memory_step, found.peak_allocated_bytes) == (2, None, None)
    assert not torch.equal(before, model.model.world_projection.linear.weight)

    def too_much(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", too_much)
    assert run_steps(model, Cell(world_tokens=16), [5, 9]).out_of_memory_step == 1


def test_runs_are_those_of_the_evidence() -> None:
    assert len(list_runs("plain", {})) == 8
    assert {expandable for _, expandable, _ in list_runs("expandable", {})} == {True}
    assert len(list_runs("expandable", {})) == 4
    names = ("projection", "vision + checkpointing", "language + checkpointing")
    limits = [limit for _, _, limit in list_runs("limited", dict.fromkeys(names, 1000))]
    assert limits == [1030, 970] * 3
    assert MARGIN == 0.03


def test_a_run_stands_beside_its_prediction() -> None:
    row = compare(MEASURED, PREDICTED)
    assert row["peak_allocated_error_percent"] == pytest.approx(1)
    assert row["peak_reserved_error_percent"] == pytest.approx(-5)
    died = replace(MEASURED, limit_bytes=145, out_of_memory_step=2)
    assert compare(died, PREDICTED)["as_predicted"]
    assert not compare(replace(died, limit_bytes=155), PREDICTED)["as_predicted"]
    assert compare(replace(died, limit_bytes=155, out_of_memory_step=None), PREDICTED)["as_predicted"]
