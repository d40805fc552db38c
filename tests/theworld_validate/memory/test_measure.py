"""Measuring, with a CUDA device that is made up: cells that run out of memory or raise cost nobody else's result."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from theworld import TheWorld
from theworld_validate.memory import measure, measured_steps
from theworld_validate.memory.cell_steps import forward_and_backward
from theworld_validate.memory.cells import Cell, build_matrix
from theworld_validate.memory.checks import check_measured, conclude_measured
from theworld_validate.memory.measure import measure_cells
from theworld_validate.memory.outcomes import Measured
from theworld_validate.rendering.folder import write_report_folder
from theworld_validate.results import CheckResult, InputError, Report, Status

TOTAL_BYTES = 10**9
CELLS = build_matrix(preset=["projection", "full"], text_tokens=[5], world_tokens=[16])


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a model on the CPU look as if it were on a device of which nothing is known but sizes."""
    answers: dict[str, Any] = {
        "empty_cache": None,
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 1000,
        "max_memory_allocated": 5000,
        "max_memory_reserved": 6000,
        "mem_get_info": (TOTAL_BYTES // 2, TOTAL_BYTES),
        "memory_snapshot": [],
    }
    for name, value in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda **_: None)
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: {"device_traces": [[]]})


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """The phases that shall raise, and what."""
    raised: dict[str, Exception] = {}

    def failing(model: Any, inputs: dict[str, Any], *, on_phase: Any, autocast: Any) -> None:
        def enter(phase: str) -> None:
            on_phase(phase)
            learns = any(parameter.requires_grad for parameter in model.model.language_model.parameters())
            if learns and phase in raised:  # the preset "full"
                raise raised[phase]

        forward_and_backward(model, inputs, on_phase=enter, autocast=autocast)

    monkeypatch.setattr(measured_steps, "forward_and_backward", failing)
    return raised


@pytest.fixture(scope="module")
def model(tiny: Any) -> TheWorld:
    from tests.conftest import load_world

    return load_world(tiny, dtype=torch.bfloat16, world={})


def by_cell(steps: Any) -> dict[Cell, Measured]:
    return {step.cell: step for step in steps}


def test_every_cell_is_measured(model: TheWorld, cuda: None) -> None:
    seen: list[str] = []
    cells = (replace(CELLS[0], precision="mixed"), CELLS[0])
    steps = by_cell(measure_cells(model, cells, progress=seen.append))
    assert seen == [cells[1].title, cells[0].title]  # what moves parameters comes last
    for step in steps.values():
        assert (step.out_of_memory, step.error) == (None, None)
        assert (step.peak_allocated_bytes, step.peak_reserved_bytes, step.floor_bytes) == (5000, 6000, 1000)
        assert set(step.phase_peaks_bytes) == {"forward", "backward", "optimizer", "zero_grad"}
        assert sum(step.split_bytes.values()) == 5000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_call_that_generates_is_measured_by_its_own_phases(model: TheWorld, cuda: None) -> None:
    cell = Cell(task="generate", text_tokens=5, world_tokens=16, new_tokens=2)
    (step,) = measure_cells(model, [cell])
    assert (step.error, step.out_of_memory, step.activation_bytes) == (None, None, None)
    assert set(step.phase_peaks_bytes) == {"prefill", "decode"}
    assert set(step.split_bytes) == {"parameters", "cache", "temporaries", "inputs", "workspace", "rounding"}
    assert sum(step.split_bytes.values()) == step.peak_allocated_bytes == 5000
    assert not model.training
    (check,) = check_measured(model, [cell])
    rows: Any = check.measurements["phase_peaks"]
    assert set(rows[0]) >= {"new_tokens", "prefill_bytes", "decode_bytes"}
    assert "forward_bytes" not in rows[0]


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_cell_that_runs_out_of_memory_is_one_row(
    model: TheWorld, cuda: None, fails: dict[str, Exception], phase: str, tmp_path: Path
) -> None:
    fails[phase] = torch.OutOfMemoryError("planted")
    (check,) = check_measured(model, CELLS)
    assert check.status is Status.PASSED  # the others ran
    assert [finding.code for finding in check.findings] == ["memory.out_of_memory"]
    assert f"ran out of memory in the phase {phase}" in check.findings[0].message
    rows: Any = check.measurements["cells"]
    assert [row["peak_allocated_bytes"] for row in rows] == [5000, None]
    for name in ("cells", "phase_peaks", "splits"):
        table: Any = check.measurements[name]
        assert len({tuple(row) for row in table}) == 1, name  # the same columns in every row
    peaks: Any = check.measurements["phase_peaks"]
    assert [row["optimizer_bytes"] for row in peaks] == [5000, *[None] * (len(peaks) - 1)]
    forms(check, tmp_path)


def forms(check: CheckResult, folder: Path) -> None:
    """Write every form of a report of one check."""
    report = Report(
        command="theworld-validate memory measure", started_at="2026-01-02T03:04:05+00:00", seconds=1.0, checks=(check,)
    )
    _, problems = write_report_folder(report, folder / "report")
    assert not problems
    assert (folder / "report" / "report.md").is_file()
    assert (folder / "report" / "report.html").is_file()


def test_an_error_in_one_cell_is_that_cells(
    model: TheWorld, cuda: None, fails: dict[str, Exception], tmp_path: Path
) -> None:
    fails["backward"] = RuntimeError("planted\nhere")
    (check,) = check_measured(model, CELLS)
    assert check.status is Status.FAILED
    assert [finding.code for finding in check.findings] == ["memory.not_measured"]
    assert "raised RuntimeError: planted\\nhere" in check.findings[0].message
    rows: Any = check.measurements["cells"]
    assert [row["peak_allocated_bytes"] for row in rows] == [5000, None]
    forms(check, tmp_path)


def test_out_of_memory_before_the_first_step_is_a_result_too(
    model: TheWorld, cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def no_room(*_: object) -> Any:
        raise torch.OutOfMemoryError("planted")
        yield

    monkeypatch.setattr(measure, "_precision", no_room)
    (step,) = measure_cells(model, CELLS[:1])
    assert step.out_of_memory == "preparing"
    (check,) = check_measured(model, CELLS[:1])
    assert (check.status, check.reason) == (Status.INCONCLUSIVE, "no configuration ran")


def test_inputs_larger_than_the_gpu_are_not_made(model: TheWorld, cuda: None) -> None:
    (step,) = measure_cells(model, [Cell(batch=1_000_000, text_tokens=5, world_tokens=16)])
    assert step.out_of_memory == "inputs"


def test_what_was_measured_is_kept_when_the_rest_is_interrupted(
    model: TheWorld, cuda: None, fails: dict[str, Any]
) -> None:
    steps = measure_cells(model, CELLS)  # the warm-up keeps what it raises to itself
    first = next(steps)
    assert first.peak_allocated_bytes == 5000
    fails["forward"] = KeyboardInterrupt()
    found: list[CheckResult] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(conclude_measured((step for part in ([first], steps) for step in part), CELLS))
    (check,) = found
    assert check.status is Status.INCONCLUSIVE
    assert len(check.measurements["cells"]) in (1, 2)  # pyrefly: ignore


def test_snapshots_that_cannot_be_written_are_bad_input(model: TheWorld, cuda: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--snapshots"):
        next(measure_cells(model, CELLS, snapshots=tmp_path / "file" / "folder"))
