"""What loads a checkpoint where the user did not say so: by its config.json alone, without a heavy import.

In: a folder or a hub id. Out: the base's target, and TheWorld's where TheWorld can load it. Whether the files are right
is checked where they are loaded.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import read_json_object
from theworld_validate.results import InputError
from theworld_validate.subjects.installed_classes import is_the_worlds
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET


def default_targets(checkpoint: str) -> tuple[str, str | None]:
    """The class that anybody loads a checkpoint with, and TheWorld's; None for that of another family than Gemma 3."""
    values: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # it is told of where it is loaded
        values = read_json_object(_config_file(checkpoint))
    named = values.get("architectures")
    if is_the_worlds(values) or not isinstance(named, list) or not named or not isinstance(named[0], str):
        return REFERENCE_TARGET, CANDIDATE_TARGET
    if named[0] in (REFERENCE_TARGET.partition(":")[2], CANDIDATE_TARGET.partition(":")[2]):
        return REFERENCE_TARGET, CANDIDATE_TARGET  # of another model type, which is told of where it is loaded
    return f"transformers:{named[0]}", None


def check_the_worlds(checkpoint: str, what: str) -> None:
    """Refuse a checkpoint of another family for what is about TheWorld alone.

    Raises:
        InputError: that says so.
    """
    base, own = default_targets(checkpoint)
    if own is None:
        raise InputError(
            f"{checkpoint}: {what} is TheWorld's own, and this is for {base}; parity, fingerprint, diff, files, "
            "buffers, params, gradients, memory and selftest are for every family"
        )


def _config_file(checkpoint: str) -> Path:
    """In the folder, or in the hub's cache.

    Raises:
        OSError: if it is not on this machine.
        ValueError: if this is no hub id.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder / "config.json"
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(checkpoint, "config.json")
    if not isinstance(cached, str):
        raise FileNotFoundError(checkpoint)
    return Path(cached)
