"""The hub cache: a checkpoint in its layout loads, and a blob that is not what its name says is named."""

import hashlib
import shutil
from pathlib import Path

import pytest

from theworld import TheWorld
from theworld.checkpoints.hub_cache import BlobCheck, verify_blobs
from theworld.synthetic import SyntheticCheckpoint


@pytest.fixture
def snapshot(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    """The tiny checkpoint as the hub's cache lays it out."""
    repository = tmp_path / "models--owner--name"
    folder = repository / "snapshots" / "0123abcd"
    (repository / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    for path in tiny.gemma.iterdir():
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            name = hashlib.sha256(data).hexdigest()
        else:
            name = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        shutil.copyfile(path, repository / "blobs" / name)
        (folder / path.name).symlink_to(Path("..", "..", "blobs", name))
    return folder


def test_a_checkpoint_in_the_cache_is_verified_and_loads(snapshot: Path) -> None:
    assert verify_blobs(snapshot) == BlobCheck(checked=tuple(sorted(p.name for p in snapshot.iterdir())), damaged=())
    assert TheWorld.from_pretrained(snapshot, enable_world=False).num_parameters()


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-00004.safetensors"])
def test_a_damaged_blob_is_named(snapshot: Path, name: str) -> None:
    blob = (snapshot / name).resolve()
    data = bytearray(blob.read_bytes())
    data[-2] ^= 1
    blob.write_bytes(data)
    assert verify_blobs(snapshot).damaged == (name,)
    assert verify_blobs(snapshot, names=("generation_config.json",)).damaged == ()


def test_an_ordinary_folder_has_no_checksums(tiny: SyntheticCheckpoint) -> None:
    assert verify_blobs(tiny.gemma) == BlobCheck(checked=(), damaged=())
