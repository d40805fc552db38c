"""A checkpoint's files: every key against every parameter, from headers alone; and, asked for, every value once.

In: a checkpoint. Out: the section "files": for each thing that is wrong an observation {problem, detail} at the key, or
at the file that it is about, and "(summary)", how much was compared. Nothing is loaded into a model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theworld.checkpoints.error_text import summary
from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.results import InputError, Scalar
from theworld_validate.subjects.architectures import architecture_of
from theworld_validate.subjects.checkpoints import folder_of, not_on_the_hub, said_to_the_user

if TYPE_CHECKING:
    from theworld.checkpoints.key_audit import DtypeDifference, Headers, KeyAudit, ShapeDifference
    from theworld.checkpoints.weight_files import WeightFiles
    from theworld_validate.subjects.architectures import Architecture

SUMMARY = "(summary)"
_Problem = tuple[str, str, str | None]  # where, what, detail


def fingerprint_files(checkpoint: str) -> Section:
    """Hold every key of a checkpoint's files against every parameter of the model that its config describes.

    Raises:
        InputError: if a file cannot be read, or the config describes no model.
    """
    headers, weights, audit = _audit(checkpoint)
    counts: dict[str, Scalar] = {
        "keys": len(headers.entries),
        "parameters": audit.num_model_keys if audit is not None else None,
        "files": len(weights.files),
        "bytes": sum(entry.stop - entry.start for entry in headers.entries.values()),
    }
    if audit is None:
        return {SUMMARY: {**counts, "not_audited": "quantised: its keys are its quantiser's"}}
    counts |= {
        "surplus": audit.surplus,
        "keys_only_in_index": len(audit.index_missing),
        "keys_not_in_index": len(audit.index_unlisted),
        "keys_in_another_shard": len(audit.index_misplaced),
        "other_weight_files": len(audit.shadowed),
    }
    return {**_section(_key_problems(audit)), SUMMARY: counts}


def fingerprint_values(checkpoint: str) -> Section:
    """Read every value of a checkpoint's files once: what is not finite, all zero, or tied and different.

    Raises:
        InputError: if a file cannot be read.
    """
    from theworld.checkpoints.value_audit import audit_values

    headers, _, keys = _audit(checkpoint)
    with said_to_the_user():
        audit = audit_values(headers, tied_twice=keys.tied_twice if keys is not None else ())
    problems: list[_Problem] = [
        (found.key, "non_finite", f"{found.num_elements:,} elements, in {found.file}") for found in audit.non_finite
    ]
    problems += [(key, "all_zero", None) for key in audit.all_zero]
    problems += [(other, "tied_different", f"of {one}") for one, other in audit.tied_different]
    return {**_section(problems), SUMMARY: {"tensors": audit.num_tensors, "bytes": audit.num_bytes}}


def verify_checksums(checkpoint: str) -> Section:
    """Hash the files of a hub cache, whose names are checksums; other files have none.

    Raises:
        InputError: if a file cannot be read.
    """
    from theworld.checkpoints.hub_cache import verify_blobs

    with said_to_the_user():
        found = verify_blobs(_folder(checkpoint))
    damaged: list[_Problem] = [(name, "damaged", "not what its checksum says") for name in found.damaged]
    return {**_section(damaged), SUMMARY: {"files": len(found.checked)}}


def _folder(checkpoint: str) -> Path:
    folder = folder_of(checkpoint, download=True)
    if folder is None:
        raise not_on_the_hub(checkpoint)
    return folder


def _audit(checkpoint: str) -> "tuple[Headers, WeightFiles, KeyAudit | None]":
    """The headers, the files, and what the keys are to the model; None for a quantised checkpoint."""
    from theworld.checkpoints.key_audit import audit_checkpoint, read_headers
    from theworld.checkpoints.weight_files import resolve_weight_files

    folder = _folder(checkpoint)
    architecture = architecture_of(str(folder))
    with said_to_the_user():
        weights = resolve_weight_files(folder)
        headers = read_headers(weights)
    if getattr(architecture.config, "quantization_config", None) is not None:
        return headers, weights, None
    model_class, config = _class_of(architecture)
    try:
        with said_to_the_user():
            return headers, weights, audit_checkpoint(weights, model_class, config)
    except InputError:
        raise
    except Exception as error:  # whatever a model's class says of a config that describes none
        what = f"{type(error).__name__}: {summary(error)}"
        raise InputError(f"{checkpoint}/config.json describes no model that can be built: {what}") from error


def _class_of(architecture: "Architecture") -> tuple[Any, Any]:
    """The class that a config's model is of, and the config as that class reads it."""
    config = architecture.config
    if not architecture.is_the_worlds:
        return architecture.model_class, config
    if config.world_config is not None:
        from theworld.modeling_theworld import TheWorld

        return TheWorld, config
    values = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    return architecture.model_class, architecture.model_class.config_class.from_dict(values)


def _key_problems(audit: "KeyAudit") -> Iterator[_Problem]:
    for key in audit.missing:
        yield key, "missing", None
    for key in audit.unexpected:
        yield key, "unexpected", f"without {audit.surplus!r} the model has it" if audit.surplus else None
    for difference in audit.mismatched:
        yield difference.key, "mismatched", _shapes(difference)
    for difference in audit.empty:
        yield difference.key, "empty", _shapes(difference)
    for difference in audit.mistyped:
        yield difference.key, "mistyped", _dtypes(difference)
    for key in audit.duplicated:
        yield key, "duplicated", "more than one key or file gives it"
    for name in audit.shadowed:
        if name.endswith(".safetensors"):  # a pickle or another framework's file is never opened, nor meant
            yield name, "shadowed", None
    for difference in audit.cast:
        yield difference.key, "cast", _dtypes(difference)
    for one, other in audit.tied_twice:
        yield other, "tied_twice", f"of {one}"
    for key in audit.unread:
        yield key, "unread", None


def _shapes(difference: "ShapeDifference") -> str:
    found = "no shape that converts" if difference.file_shape is None else str(list(difference.file_shape))
    return f"{found} in {difference.file}, the model's is {list(difference.model_shape)}"


def _dtypes(difference: "DtypeDifference") -> str:
    return f"{difference.file_dtype} in {difference.file}, loaded in {difference.model_dtype}"


def _section(problems: "Iterator[_Problem] | list[_Problem]") -> Section:
    section: Section = {}
    for where, problem, detail in problems:
        location = clean_text(where)
        if location in section:
            location = f"{location} ({problem})"
        section[location] = {"problem": problem, "detail": clean_text(detail) if detail is not None else None}
    return section
