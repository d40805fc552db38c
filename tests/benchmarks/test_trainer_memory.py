"""What a training says of its peak is what the benchmark reads; its samples and config are ones that train."""

import logging
from pathlib import Path

import pytest

from benchmarks.trainer_memory import STAGES, read_peaks, write_config, write_samples
from theworld.training import memory
from theworld.training.config import StageConfig, read_config


def test_reads_what_a_training_says(caplog: pytest.LogCaptureFixture) -> None:
    stage = StageConfig(name="vision", steps=1, learning_rate=1e-5)
    predicted = memory.Prediction(sentence="memory: so", peak_bytes=10**10)
    with caplog.at_level(logging.INFO, logger="theworld.training"):
        memory.compare(stage, 9_975_000_000, predicted)
        memory.compare(stage, 10_000_000, memory.Prediction(sentence="memory: not predicted"))
    assert read_peaks(caplog.text) == [
        {"stage": "vision", "measured_gb": 9.97, "measured_over_predicted_percent": -0.25}
    ]


def test_writes_a_config_that_is_read(tmp_path: Path) -> None:
    write_samples(tmp_path, image_side=56, frame_size=32)
    config = read_config(write_config(tmp_path / "tiny", tmp_path, num_steps=2, frame_size=32))
    assert [stage.name for stage in config.stages] == [stage["name"] for stage in STAGES]
