"""The evidence on two GPUs: its commands are those of the docs, its samples train, rows stand beside predictions."""

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.launch import launch_command_parser

from benchmarks import multi_gpu_evidence as evidence
from benchmarks import rank_memory
from benchmarks.rank_memory import GROUPS, measure_or_say, row_of
from theworld.synthetic import SyntheticCheckpoint
from theworld.training.config import TrainingConfig
from theworld.training.data import Samples
from theworld.training.stages import load_processor, make_collator
from theworld_validate.memory.cells import Cell, check_cell

DOCS = Path(__file__).parents[2] / "docs" / "distributed.md"


@pytest.fixture
def place(tiny: SyntheticCheckpoint, tmp_path: Path) -> evidence.Place:
    return evidence.Place(folder=tmp_path, checkpoint=tiny.gemma.parent, size="tiny", device="cuda")


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_it_launches_what_the_docs_say(place: evidence.Place, way: str) -> None:
    command = evidence.launch_command(place, way, Path("train.yaml"))
    assert f"accelerate launch {' '.join(command[3:])}" in DOCS.read_text(encoding="utf-8")
    asked = launch_command_parser().parse_args(command[3:])
    assert (int(asked.num_processes), asked.multi_gpu, asked.use_fsdp) == (2, way == "ddp", way == "fsdp2")


def test_its_samples_are_equally_long_and_its_stages_can_be_trained(place: evidence.Place) -> None:
    evidence.write_samples(place.folder / "data", evidence.FRAME_SIZES["tiny"])
    config = TrainingConfig.model_validate(evidence.training_values(place, "fsdp2"))
    assert [(i, stage.name) for i, stage in enumerate(config.stages, start=1)] == list(evidence.STAGES)
    assert [stage.name for stage in TrainingConfig.model_validate(evidence.training_values(place, "ddp")).stages] == [
        "projection"
    ]
    processor = load_processor(config, None)
    samples, collate = Samples(config.data, processor.to_frames), make_collator(config, processor)
    batches = [collate([samples[i]]) for i in range(len(samples))]
    assert len({batch["input_ids"].shape[1] for batch in batches}) == 1
    assert all({"pixel_values", "world_frames"} <= batch.keys() for batch in batches)


def test_every_cell_can_be_and_is_asked_once() -> None:
    cells = [cell for group in GROUPS.values() for cell in group]
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        check_cell(cell)
    assert all(cell.num_gpus == (1 if name == "offload" else 2) for name, group in GROUPS.items() for cell in group)


def test_measured_rows_stand_beside_predicted_ones(place: evidence.Place) -> None:
    """A run that was cut off has rows without the other half, and no error is made of them."""
    one, other, third = (row_of(Cell(batch=batch)) for batch in (1, 2, 3))
    peaks = {"predicted_peak_allocated_bytes": 101, "predicted_peak_reserved_bytes": 190}
    rank_memory.write(place.folder / "predicted.json", [one | peaks, other | peaks])
    measured = {"measured_peak_allocated_bytes": 100, "measured_peak_reserved_bytes": 200}
    rank_memory.write(place.folder / "memory-ddp.json", [one | measured, third | {"error": "RuntimeError: planted"}])
    rows = {json.dumps(row["cell"]): row for row in evidence.compare(place.folder)}
    first, second, last = (rows[json.dumps(row["cell"])] for row in (one, other, third))
    assert first["peak_allocated_error_percent"] == pytest.approx(1)
    assert first["peak_reserved_error_percent"] == pytest.approx(-5)
    assert "peak_allocated_error_percent" not in second
    assert last["error"] == "RuntimeError: planted"


def test_what_a_cell_raises_is_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(rank_memory, "measure", fail)
    assert measure_or_say(Path(), Cell(), None) == {"error": "RuntimeError: planted"}


def test_a_part_that_fails_fails_the_whole() -> None:
    assert not evidence.has_failed({"exit_code": 0, "stages": []})
    assert evidence.has_failed({"exit_code": 1})
    assert evidence.has_failed({"parity": {"exit_code": 0}, "drift": {"exit_code": 2}})
