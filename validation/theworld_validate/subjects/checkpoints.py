"""Checkpoints before anything is loaded: are they whole, what do they configure, how large are they.

In: a local folder or a hub id. Out: a folder, a config, a size, a digest; or an `InputError` of one line: the file or
field, and the fix. No weight is read but for the digest. The rules are theworld's own.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import check_readable_path, is_folder
from theworld.checkpoints.checkpoint_files import checkpoint_digest, read_json_object
from theworld.checkpoints.error_text import one_line, summary
from theworld.checkpoints.safetensors_header import read_safetensors_header
from theworld.checkpoints.weight_files import resolve_weight_files
from theworld_validate.results import InputError
from theworld_validate.subjects.installed_classes import check_folder

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# What transformers opens, and what is checked: no pickle, no copy in another layout.
_HUB_FILES = ["*.json", "model.safetensors", "model-*.safetensors", "tokenizer.model"]
_MAX_LINE = 900


def not_on_the_hub(name: str) -> InputError:
    """The error for a hub id that is neither in the cache nor to be had."""
    return InputError(
        f"{one_line(name)}: not on this machine, and the hub did not give it; check the id, the network and "
        "your access (hf auth login), or name a local folder"
    )


@contextmanager
def said_to_the_user() -> Iterator[None]:
    """Turn what theworld's readers raise of a checkpoint into an `InputError` of one line."""
    try:
        yield
    except ValueError as error:  # the file, what is wrong, the fix
        raise InputError(one_line(" ".join(str(error).split()), _MAX_LINE)) from error
    except OSError as error:
        raise InputError(summary(error)) from error


def check_checkpoint(checkpoint: str) -> None:
    """Check a checkpoint before anything is loaded: a folder's files and config, or a hub id's form.

    Raises:
        InputError: with the file or field, and the fix.
    """
    folder = local_folder(checkpoint)
    if folder is not None:
        with said_to_the_user():
            check_folder(folder)


def config_values_of(checkpoint: str) -> dict[str, Any] | None:
    """What a checkpoint's config.json says, checked with the folder's other files; None where it cannot be had.

    Raises:
        InputError: if a file or field is wrong.
    """
    check_checkpoint(checkpoint)
    folder = local_folder(checkpoint)
    if folder is not None:
        with said_to_the_user():
            return read_json_object(folder / "config.json")
    from transformers import PreTrainedConfig

    try:
        values, _ = PreTrainedConfig.get_config_dict(checkpoint)
    except (OSError, ValueError):  # whoever reads it next says why
        return None
    return values


def local_folder(checkpoint: str) -> Path | None:
    """The folder that is named; None for a hub id.

    Raises:
        InputError: if it is neither, or nobody may look.
    """
    with said_to_the_user():
        check_readable_path(checkpoint)
        folder = Path(checkpoint)
        if is_folder(folder):
            return folder
        if folder.exists() or not _HUB_ID.fullmatch(checkpoint):
            raise InputError(f"{one_line(checkpoint)}: no such folder, nor a hub id of the form owner/name")
    return None


def folder_of(checkpoint: str, *, download: bool) -> Path | None:
    """The folder that holds a checkpoint's files; None for a hub id that is not in the cache.

    Args:
        checkpoint: a local folder or a hub id.
        download: have the hub give what is missing: it is about to be loaded.

    Raises:
        InputError: if there is no such folder, or the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    folder = local_folder(checkpoint)
    if folder is not None:
        return folder
    try:
        return Path(snapshot_download(checkpoint, allow_patterns=_HUB_FILES, local_files_only=not download))
    except (OSError, ValueError) as error:  # huggingface_hub's own errors are of these kinds
        if not download:
            return None
        raise not_on_the_hub(checkpoint) from error


def read_config(checkpoint: str) -> Any:
    """Read a checkpoint's Gemma 3 configuration. transformers' config classes import torch: 2 s in a new process.

    Raises:
        InputError: if there is none, a field is wrong, or the hub cannot be reached.
    """
    from theworld.configuration_theworld import TheWorldConfig

    check_checkpoint(checkpoint)
    try:
        return TheWorldConfig.from_pretrained(checkpoint)
    except OSError as error:
        if local_folder(checkpoint) is None:
            raise not_on_the_hub(checkpoint) from error
        raise InputError(f"{one_line(checkpoint)}/config.json: {summary(error)}") from error
    except Exception as error:  # transformers' own checks raise several kinds
        what = summary(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {summary(error)}"
        raise InputError(f"{one_line(checkpoint)}/config.json: {what}") from error


def weight_bytes_of(checkpoint: str) -> int | None:
    """The bytes of a checkpoint's tensors, from its files' headers; None if they are not on this machine.

    Raises:
        InputError: if a file is damaged.
    """
    folder = folder_of(checkpoint, download=False)
    if folder is None:
        return None
    with said_to_the_user():
        headers = [read_safetensors_header(path) for path in resolve_weight_files(folder).files]
    return sum(entry.stop - entry.start for header in headers for entry in header.values())


def stamp_of(checkpoint: str) -> dict[str, tuple[int, int, int]]:
    """When a local checkpoint's files were written last: name -> inode, size, time. Links are followed.

    Nothing is raised: a folder that cannot be looked into is named when it is loaded.
    """
    stamps = {}
    paths: list[Path] = []
    with suppress(OSError, ValueError):
        paths = sorted(Path(checkpoint).glob("*.*")) if Path(checkpoint).is_dir() else []
    for path in paths:
        if path.suffix in (".json", ".safetensors"):
            with suppress(OSError):  # it is gone since it was listed
                found = path.stat()
                stamps[path.name] = (found.st_ino, found.st_size, found.st_mtime_ns)
    return stamps


def checkpoint_digest_of(checkpoint: str) -> str | None:
    """Digest a checkpoint's tensors, whatever shards they lie in; None if they are not on this machine.

    Every byte is read: several GB a second from memory, as fast as the disk is otherwise.

    Raises:
        InputError: if a file is damaged.
    """
    folder = folder_of(checkpoint, download=False)
    if folder is None:
        return None
    with said_to_the_user():
        return checkpoint_digest(folder)
