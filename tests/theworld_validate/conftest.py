"""Tiny checkpoints of other families than Gemma 3, written once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from theworld_validate.subjects.tiny_models import write_tiny


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function: the name of a class of transformers to the folder of a tiny checkpoint of it."""
    written: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in written:
            written[name] = write_tiny(name, tmp_path_factory.mktemp("family") / name)
        return written[name]

    return find
