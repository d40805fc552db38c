"""A local checkpoint folder's files: are they whole, and what is their digest.

In: a folder. Out: nothing if every file is whole, a 128-bit digest of the tensors' bytes, or a
`ValueError` with the file and the fix. Only headers are parsed; weights are memory-mapped.
"""

import mmap
from pathlib import Path

from theworld.checkpoints.bounded_files import check_readable_path, is_folder, open_regular, read_json_object
from theworld.checkpoints.error_text import file_error
from theworld.checkpoints.safetensors_header import TensorEntry, read_safetensors_header
from theworld.checkpoints.weight_files import Layout, WeightFiles, check_adapter_files, resolve_weight_files

__all__ = [
    "TensorEntry",
    "check_safetensors_folder",
    "checkpoint_digest",
    "digest_weights",
    "file_digest",
    "list_safetensors",
    "read_json_object",
    "read_safetensors_header",
]


def list_safetensors(folder: Path, layout: Layout = "transformers") -> list[Path]:
    """List the safetensors files that a loader would open in a folder.

    Raises:
        ValueError: if there is none, or the index names a file that is not there.
    """
    return list(resolve_weight_files(folder, layout).files)


def check_safetensors_folder(
    folder: Path, layout: Layout = "transformers", *, variant: str | None = None
) -> WeightFiles:
    """Raise a `ValueError`, with the file and the fix, unless the folder's weights are whole safetensors.

    Args:
        layout: whose loader will read the folder.
        variant: of the weights' file names, as `from_pretrained` takes it.

    Returns:
        The files that the loader will open.
    """
    check_readable_path(folder)
    if not is_folder(folder) or not any(folder.iterdir()):
        raise file_error(folder, "no such folder, or an empty one", "give a checkpoint folder or a hub id")
    read_json_object(folder / "config.json")
    weights = resolve_weight_files(folder, layout, variant=variant)
    for path in weights.files:
        read_safetensors_header(path)
    if layout == "transformers" and (adapter := check_adapter_files(folder)) is not None:
        read_safetensors_header(adapter)
    return weights


def checkpoint_digest(folder: Path, layout: Layout = "transformers") -> str:
    """Digest every tensor of a folder's safetensors: name, dtype, shape and bytes (XXH3, 128 bits).

    How the tensors are spread over shards does not matter; any changed bit does.
    """
    return digest_weights(folder, layout)[0]


def digest_weights(folder: Path, layout: Layout = "transformers") -> tuple[str, dict[str, str]]:
    """The digest of all tensors that a loader reads, and that of each file's tensors by the file's name."""
    import xxhash

    lines_of: dict[str, list[str]] = {}
    for path in list_safetensors(folder, layout):
        lines = lines_of[path.name] = []
        entries = read_safetensors_header(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            for name, entry in entries.items():
                with view[entry.start : entry.stop] as data:
                    lines.append(f"{name} {entry.dtype} {entry.shape} {xxhash.xxh3_128_hexdigest(data)}")
            view.release()

    def digest(lines: list[str]) -> str:
        return xxhash.xxh3_128_hexdigest("\n".join(sorted(lines)).encode())

    every_line = [line for lines in lines_of.values() for line in lines]
    return digest(every_line), {name: digest(lines) for name, lines in lines_of.items()}


def file_digest(path: Path) -> str:
    """Digest a file's bytes (XXH3, 128 bits)."""
    import xxhash

    digest = xxhash.xxh3_128()
    with open_regular(path) as (file, _):
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
