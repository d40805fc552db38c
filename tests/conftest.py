"""Fixtures that both packages' tests share: one tiny checkpoint, and models loaded from it once."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from transformers import Gemma3ForConditionalGeneration
from transformers.utils import logging

from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint, cached_checkpoint
from theworld_validate.documents import report as report_document
from theworld_validate.results import Report

SCHEMA = Path(__file__).parent.parent / "validation" / "theworld_validate" / "documents" / "report.schema.json"
FRAME_SIZE = 32  # 16 world tokens a latent step


def pytest_configure() -> None:
    """Have the workers of pytest-xdist share the processor, in processes that they start too."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        num_threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
        torch.set_num_threads(num_threads)


@pytest.fixture(scope="session", autouse=True)
def _quiet_and_own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEWORLD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _every_report_is_as_the_schema_says() -> Iterator[None]:
    """Hold each report that any command makes in this process against the published schema, and read it back."""
    make = report_document.report_to_json

    def make_checked(report: Report) -> dict[str, Any]:
        made = make(report)
        text = json.dumps(made, allow_nan=False)
        validator.validate(json.loads(text))
        return made

    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_document, "report_to_json", make_checked)
        yield


@pytest.fixture(scope="session")
def tiny(_quiet_and_own_cache: None) -> SyntheticCheckpoint:
    return cached_checkpoint("tiny")


@pytest.fixture(scope="session")
def whole_cosmos(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Cosmos repository with what predicts."""
    import shutil

    from theworld.synthetic_pipeline import write_pipeline

    folder = Path(shutil.copytree(tiny.cosmos, tmp_path_factory.mktemp("whole") / "cosmos"))
    write_pipeline("tiny", folder)
    return folder


def load_world(tiny: SyntheticCheckpoint, **arguments: Any) -> TheWorld:
    """Load the tiny checkpoint with its world branch on, in float32 unless told otherwise."""
    arguments = {"dtype": torch.float32, "world": {"frame_size": FRAME_SIZE, "max_world_steps": 4}, **arguments}
    torch.manual_seed(0)
    return TheWorld.from_pretrained(tiny.gemma, cosmos_model_name_or_path=str(tiny.cosmos), **arguments)


@pytest.fixture(scope="session")
def shared_world(tiny: SyntheticCheckpoint) -> TheWorld:
    """A model that no test may change."""
    return load_world(tiny)


@pytest.fixture
def world(tiny: SyntheticCheckpoint) -> TheWorld:
    return load_world(tiny)


@pytest.fixture
def gemma(tiny: SyntheticCheckpoint) -> Gemma3ForConditionalGeneration:
    return Gemma3ForConditionalGeneration.from_pretrained(tiny.gemma, dtype=torch.float32)


@pytest.fixture(scope="session")
def processor(tiny: SyntheticCheckpoint) -> TheWorldProcessor:
    return TheWorldProcessor.from_pretrained(tiny.gemma, frame_size=FRAME_SIZE)


def make_clip(num_frames: int = 5, *, seed: int = 0, side: int = FRAME_SIZE) -> torch.Tensor:
    """A random clip (3, F, side, side) in [-1, 1]."""
    return torch.rand(3, num_frames, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def gemma_copy(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    """A copy of the Gemma folder that a test may damage."""
    import shutil

    return Path(shutil.copytree(tiny.gemma, tmp_path / "gemma"))
