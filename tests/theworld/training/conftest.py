"""A tiny run: samples whose clips are noise, and a config of two short stages."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import FRAME_SIZE
from theworld.synthetic import SyntheticCheckpoint
from theworld.training.config import TrainingConfig

NUM_SAMPLES = 12


def question(*items: dict[str, str], answer: str) -> dict[str, Any]:
    """A sample: items of the user's turn, and the assistant's answer."""
    content = [*items, {"type": "text", "text": "which?"}]
    return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]}


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


@pytest.fixture(scope="session", autouse=True)
def _imports_are_not_collected() -> Iterator[None]:
    """Each run collects garbage three times, which takes longer than a step of the tiny model."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples with a picture each, of which every third has no clip."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    rows = []
    for i in range(NUM_SAMPLES):
        np.save(folder / f"{i}.npy", draw.integers(0, 256, (5, FRAME_SIZE, FRAME_SIZE, 3)).astype(np.uint8))
        Image.fromarray(draw.integers(0, 256, (56, 56, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        items = [{"type": "world", "path": f"{i}.npy"}] if i % 3 else []
        rows.append(question({"type": "image", "path": f"{i}.png"}, *items, answer=["left", "right, then up"][i % 2]))
    return write_lines(folder / "samples.jsonl", rows)


def stage(name: str = "projection", **fields: Any) -> dict[str, Any]:
    return {"name": name, "steps": 4, "learning_rate": 1e-3, "batch_size": 2, **fields}


@pytest.fixture
def values(tiny: SyntheticCheckpoint, data: Path, tmp_path: Path) -> dict[str, Any]:
    """A config of one stage; tests change it."""
    return {
        "model": str(tiny.gemma),
        "cosmos": str(tiny.cosmos),
        "world": {"frame_size": FRAME_SIZE, "max_world_steps": 4},
        "data": {"path": str(data)},
        "output_dir": str(tmp_path / "out"),
        "log_every_steps": 1,
        "logging": [],
        "stages": [stage()],
    }


def make(values: dict[str, Any], **fields: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({**values, **fields})


def write_config(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path
