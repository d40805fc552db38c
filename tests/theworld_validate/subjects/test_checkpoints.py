"""Checkpoints: a folder is checked before anything is loaded, and what is wrong is one line."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from theworld.checkpoints.checkpoint_files import checkpoint_digest
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.results import InputError
from theworld_validate.subjects.checkpoints import (
    check_checkpoint,
    checkpoint_digest_of,
    folder_of,
    read_config,
    weight_bytes_of,
)


def test_a_whole_folder_is_read(tiny: SyntheticCheckpoint) -> None:
    folder = str(tiny.gemma)
    check_checkpoint(folder)
    assert read_config(folder).text_config.hidden_size == 80
    num_bytes = sum(path.stat().st_size for path in tiny.gemma.glob("*.safetensors"))
    weights = weight_bytes_of(folder)
    assert weights is not None
    assert 0.9 * num_bytes < weights < num_bytes
    assert checkpoint_digest_of(folder) == checkpoint_digest(tiny.gemma)


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ("no-such-folder", "no such folder, nor a hub id"),
        ("a/b/c", "no such folder, nor a hub id"),
        ("\udcff\udcfe/x", "not UTF-8"),
        ("null\0character", "null character"),
        ("a" * 5000, "name is too long"),
    ],
)
def test_a_path_that_nobody_can_open_is_said(checkpoint: str, said: str) -> None:
    for check in (check_checkpoint, read_config, weight_bytes_of, checkpoint_digest_of):
        with pytest.raises(InputError, match=said) as caught:
            check(checkpoint)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_size", 0), ("sliding_window", -1), ("rope_parameters", {"full_attention": 5})]
)
def test_a_wrong_field_is_named(gemma_copy: Path, field: str, value: object) -> None:
    path = gemma_copy / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["text_config"][field] = value
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=field):
        read_config(str(gemma_copy))


def test_a_hub_id_is_looked_up_in_the_cache(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((name, local_files_only, "*.bin" in allow_patterns))
        return str(tiny.gemma)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert folder_of("google/gemma-3-4b-it", download=True) == tiny.gemma
    assert weight_bytes_of("google/gemma-3-4b-it") == weight_bytes_of(str(tiny.gemma))
    assert asked == [("google/gemma-3-4b-it", False, False), ("google/gemma-3-4b-it", True, False)]


def test_a_hub_id_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **arguments: object) -> str:
        raise LocalEntryNotFoundError(f"{name} is not cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert checkpoint_digest_of("owner/name") is None
    assert weight_bytes_of("owner/name") is None
    with pytest.raises(InputError, match="owner/name: not on this machine"):
        folder_of("owner/name", download=True)
