"""The catalogue: every fault says where it was seen, what must catch it, and what must be said of it."""

import re
from pathlib import Path
from typing import Any

import pytest

from theworld_validate.audits.training import ASPECTS
from theworld_validate.compare.causes import Cause
from theworld_validate.documents.observations import SECTIONS
from theworld_validate.faults.base import Fault, fault
from theworld_validate.faults.catalogue import CATALOGUE

GROUPS = {"files", "load", "attention", "numerics", "runtime", "generation", "gradients", "round trip", "training"}


def test_the_catalogue_is_large() -> None:
    assert len(CATALOGUE) >= 82
    assert {entry.group for entry in CATALOGUE.values()} == GROUPS


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_a_fault_says_what_must_be_said_of_it(entry: Fault) -> None:
    assert entry.seen
    assert entry.section in (ASPECTS if entry.group == "training" else SECTIONS)
    assert entry.causes
    assert all(isinstance(cause, Cause) for cause in entry.causes)
    re.compile(entry.location)
    assert (entry.group == "files") == (entry.folder is not None)


def test_a_fault_of_files_damages_a_copy(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    (original / "config.json").write_text("{}")
    copied = CATALOGUE["lost-key"]
    entry = Fault(
        name="x", group="files", seen="x", section="files", location="", causes=copied.causes, folder=_add_a_file
    )
    made = entry.damage_copy(str(original), tmp_path / "copy")
    assert sorted(path.name for path in made.iterdir()) == ["added", "config.json"]
    assert [path.name for path in original.iterdir()] == ["config.json"]


def _add_a_file(folder: Path) -> None:
    (folder / "added").touch()


def test_two_faults_of_one_name_are_a_mistake() -> None:
    def train_mode(model: Any) -> None: ...

    with pytest.raises(AssertionError, match="two faults are named train-mode"):
        fault("runtime", "x", "modules", r"", Cause.MODE_FLAG)(train_mode)
