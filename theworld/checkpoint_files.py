"""A local checkpoint's safetensors files: are they whole, and what is their digest.

In: a folder. Out: nothing if every file is whole, a 128-bit digest of the tensors' bytes, or a
`ValueError` with the file and the fix. Only headers are parsed; weights are memory-mapped.
"""

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LENGTH_BYTES = 8  # a safetensors file opens with its header's length: 64 bits, little-endian
_MAX_HEADER_BYTES = 100_000_000  # the limit of the format itself


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies in a file: `start` and `stop` are byte offsets from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """Read what tensors a safetensors file holds, and check that the file is as long as it says.

    Raises:
        ValueError: if the file is truncated or is not a safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or not 0 < header_bytes <= min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise ValueError(f"{path}: not a safetensors file, or cut off in its header; download or write it again")
        try:
            header = json.loads(file.read(header_bytes))
        except ValueError as error:
            raise ValueError(f"{path}: its safetensors header is not JSON; download or write it again") from error
    header.pop("__metadata__", None)
    data_start = _LENGTH_BYTES + header_bytes
    entries = {
        name: TensorEntry(
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            start=data_start + entry["data_offsets"][0],
            stop=data_start + entry["data_offsets"][1],
        )
        for name, entry in header.items()
    }
    expected = max((entry.stop for entry in entries.values()), default=data_start)
    if size != expected:
        state = "truncated" if size < expected else "too long"
        raise ValueError(f"{path}: {state}: {size:,} bytes, its header says {expected:,}; download or write it again")
    return entries


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: if the file is missing, or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; give a complete checkpoint folder") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); download or write it again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}, expected a JSON object")
    return value


def list_safetensors(folder: Path) -> list[Path]:
    """List the safetensors files that a transformers or diffusers checkpoint folder consists of.

    Raises:
        ValueError: if there is none, or the index names a file that is not there.
    """
    for stem in ("model", "diffusion_pytorch_model"):
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            weight_map = read_json_object(index).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise ValueError(f"{index}: field weight_map is missing or empty; download the index again")
            shards = [folder / name for name in sorted(set(weight_map.values()))]
            missing = [shard.name for shard in shards if not shard.is_file()]
            if missing:
                raise ValueError(
                    f"{folder}: missing shard {', '.join(missing)}, which {index.name} names; "
                    "download the missing files into the folder"
                )
            return shards
        if (folder / f"{stem}.safetensors").is_file():
            return [folder / f"{stem}.safetensors"]
    raise ValueError(f"{folder}: no model.safetensors, nor an index of shards; give a folder with safetensors weights")


def check_safetensors_folder(folder: Path) -> None:
    """Raise a `ValueError`, with the file and the fix, unless the folder's weights are whole."""
    if not folder.is_dir() or not any(folder.iterdir()):
        raise ValueError(f"{folder}: no such folder, or an empty one; give a checkpoint folder or a hub id")
    read_json_object(folder / "config.json")
    for path in list_safetensors(folder):
        read_safetensors_header(path)


def checkpoint_digest(folder: Path) -> str:
    """Digest every tensor of a folder's safetensors: name, dtype, shape and bytes (XXH3, 128 bits).

    How the tensors are spread over shards does not matter; any changed bit does.
    """
    import xxhash

    lines = []
    for path in list_safetensors(folder):
        entries = read_safetensors_header(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            for name, entry in entries.items():
                with view[entry.start : entry.stop] as data:
                    lines.append(f"{name} {entry.dtype} {entry.shape} {xxhash.xxh3_128_hexdigest(data)}")
            view.release()
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(lines)).encode())
