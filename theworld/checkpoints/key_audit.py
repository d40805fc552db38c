"""Every key of a checkpoint's files against every parameter and persistent buffer of the model.

In: the headers of the files that a loader opens, and the empty model. Out: a `KeyAudit`; no weight is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import file_error, summary
from theworld.checkpoints.key_renaming import Arrival, KeyRenaming, build_on_meta
from theworld.checkpoints.key_spelling import surplus_words
from theworld.checkpoints.safetensors_header import TensorEntry, read_safetensors_header
from theworld.checkpoints.shape_suspects import suspect_field
from theworld.checkpoints.weight_files import WeightFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeDifference:
    """A tensor whose shape is not the model's; `file_shape` is None where converting it fails."""

    key: str
    file: str
    model_key: str
    file_shape: tuple[int, ...] | None
    model_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeDifference:
    """A tensor that is stored in another dtype than it is loaded in; torch's names."""

    key: str
    file: str
    model_key: str
    file_dtype: str
    model_dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAudit:
    """What the keys of a checkpoint's files are to a model.

    Args:
        missing: parameters and persistent buffers that no file key becomes; a tied one counts if its table is missing.
        unexpected: file keys that the model has no place for.
        surplus: words in the unexpected keys, such as "_orig_mod.", without which they would be the model's.
        unread: file keys that transformers leaves out on purpose, such as old rotary buffers.
        mismatched: of another shape than the model's, and not empty.
        suspect: the field of config.json that explains the shapes, such as "text_config.hidden_size".
        empty: stored without an element where the model's has some.
        mistyped: not floating point where the parameter is, or the other way round.
        cast: stored in another dtype than it is loaded in.
        duplicated: file keys that become a tensor which another file key, or file, becomes too.
        tied_twice: pairs of file keys that are one tied table of the model, stored twice: legitimate.
        index_missing: keys that the index names and its shards do not hold.
        index_unlisted: keys in the shards that the index does not name.
        index_misplaced: keys that lie in another shard than the index says.
        shadowed: weight files in the folder that the loader does not open.
    """

    folder: Path
    num_file_keys: int
    num_model_keys: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    surplus: str | None
    unread: tuple[str, ...]
    mismatched: tuple[ShapeDifference, ...]
    suspect: str | None
    empty: tuple[ShapeDifference, ...]
    mistyped: tuple[DtypeDifference, ...]
    cast: tuple[DtypeDifference, ...]
    duplicated: tuple[str, ...]
    tied_twice: tuple[tuple[str, str], ...]
    index_missing: tuple[str, ...]
    index_unlisted: tuple[str, ...]
    index_misplaced: tuple[str, ...]
    shadowed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """The headers of the files that a loader opens: key -> entry, and key -> file; a key's last file counts."""

    entries: Mapping[str, TensorEntry]
    file_of: Mapping[str, Path]
    in_two_files: tuple[str, ...]


def read_headers(weights: WeightFiles) -> Headers:
    """Read the header of each file.

    Raises:
        ValueError: if one is not a whole safetensors file.
    """
    entries: dict[str, TensorEntry] = {}
    file_of: dict[str, Path] = {}
    twice: list[str] = []
    for path in weights.files:
        for key, entry in read_safetensors_header(path).items():
            if key in entries:
                twice.append(key)
            entries[key], file_of[key] = entry, path
    return Headers(entries=entries, file_of=file_of, in_two_files=tuple(twice))


def audit_checkpoint(
    weights: WeightFiles,
    model_class: Any,
    config: Any,
    *,
    dtype: Any = None,
    key_mapping: Mapping[str, str] | None = None,
) -> KeyAudit:
    """Audit a checkpoint against the transformers class that would load it.

    Args:
        model_class: such as `Gemma3ForConditionalGeneration`, or `TheWorld`.
        config: an instance of its config; not changed.
        dtype: what weights are loaded in, a `torch.dtype` or its name; the config's own if None or "auto".
        key_mapping: as `from_pretrained` takes it.

    Raises:
        ValueError: if a file is damaged, or the config describes no model.
    """
    headers = read_headers(weights)
    try:
        model = build_on_meta(model_class, config)
    except Exception as error:  # whatever a constructor makes of a config that describes no model
        what = f"describes no model that can be built ({type(error).__name__}: {summary(error)})"
        raise file_error(weights.folder / "config.json", what, "correct the field, or download it again") from error
    named = dtype if dtype not in (None, "auto") else getattr(config, "dtype", None)
    return audit_model(weights, headers, model, dtype=named, key_mapping=key_mapping)


def audit_model(
    weights: WeightFiles,
    headers: Headers,
    model: Any,
    *,
    dtype: Any = None,
    key_mapping: Mapping[str, str] | None = None,
) -> KeyAudit:
    """Audit headers against an empty model: of transformers, or any module whose keys keep their names."""
    tensors: dict[str, Any] = model.state_dict()
    renaming = KeyRenaming(model, key_mapping=key_mapping)
    arrivals, unexpected = renaming.arrivals(headers.entries)
    arrived = {arrival.model_key: arrival for arrival in arrivals}
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    missing, read_unexpected = _as_transformers_adjusts(model, set(tensors) - set(arrived), set(unexpected))
    present = {name for pair in tied.items() if set(pair) & set(arrived) for name in pair}
    index_keys = set(weights.weight_map)
    shapes = [_shape_difference(a, headers, tensors) for a in arrivals if a.model_key in tensors]
    different = [difference for difference in shapes if difference is not None]
    dtypes = [_dtype_difference(a, headers, tensors, dtype) for a in arrivals if a.model_key in tensors]
    return KeyAudit(
        folder=weights.folder,
        num_file_keys=len(headers.entries),
        num_model_keys=len(tensors),
        missing=tuple(sorted(missing - present)),
        unexpected=tuple(key for key in unexpected if key in read_unexpected),
        surplus=surplus_words(unexpected, renaming.knows) if unexpected else None,
        unread=tuple(key for key in unexpected if key not in read_unexpected),
        mismatched=tuple(d for d in different if d.file_shape is None or 0 not in d.file_shape),
        suspect=suspect_field(
            (a.model_key, a.shape, tuple(tensors[a.model_key].shape)) for a in arrivals if a.shape is not None
        )
        if different
        else None,
        empty=tuple(d for d in different if d.file_shape is not None and 0 in d.file_shape),
        mistyped=tuple(d for d in dtypes if d is not None and _is_mistyped(d)),
        cast=tuple(d for d in dtypes if d is not None and not _is_mistyped(d)),
        duplicated=headers.in_two_files
        + tuple(key for a in arrivals if _is_plain(a, renaming) for key in a.file_keys[1:]),
        tied_twice=tuple(
            (arrived[source].file_keys[0], arrived[target].file_keys[0])
            for target, source in tied.items()
            if source in arrived and target in arrived
        ),
        index_missing=tuple(sorted(index_keys - set(headers.entries))),
        index_unlisted=tuple(sorted(set(headers.entries) - index_keys)) if index_keys else (),
        index_misplaced=tuple(
            sorted(k for k, name in weights.weight_map.items() if headers.file_of.get(k, Path(name)).name != name)
        ),
        shadowed=weights.shadowed,
    )


def _is_plain(arrival: Arrival, renaming: KeyRenaming) -> bool:
    return len(arrival.file_keys) > 1 and renaming.rename(arrival.file_keys[0])[1] is None


def _as_transformers_adjusts(model: Any, missing: set[str], unexpected: set[str]) -> tuple[set[str], set[str]]:
    """Take out what the model's class says may be missing or unread."""
    if not hasattr(model, "_adjust_missing_and_unexpected_keys"):
        return missing, unexpected
    from transformers.utils.loading_report import LoadStateDictInfo

    info = LoadStateDictInfo(
        missing_keys=missing,
        unexpected_keys=unexpected,
        mismatched_keys=set(),
        error_msgs=[],
        conversion_errors={},
        skipped_pp_keys=set(),
    )
    model._adjust_missing_and_unexpected_keys(info)
    return info.missing_keys, info.unexpected_keys


def _shape_difference(arrival: Arrival, headers: Headers, tensors: Mapping[str, Any]) -> ShapeDifference | None:
    model_shape = tuple(tensors[arrival.model_key].shape)
    if arrival.shape == model_shape:
        return None
    key = arrival.file_keys[0]
    return ShapeDifference(
        key=key,
        file=headers.file_of[key].name,
        model_key=arrival.model_key,
        file_shape=arrival.shape,
        model_shape=model_shape,
    )


def _dtype_difference(
    arrival: Arrival, headers: Headers, tensors: Mapping[str, Any], dtype: Any
) -> DtypeDifference | None:
    tensor = tensors[arrival.model_key]
    loaded_in = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    model_dtype = str(loaded_in).removeprefix("torch.")
    key = arrival.file_keys[0]
    file_dtype = arrival.dtype or headers.entries[key].dtype
    if file_dtype == model_dtype or (dtype is None and "float" in file_dtype and tensor.is_floating_point()):
        return None
    return DtypeDifference(
        key=key,
        file=headers.file_of[key].name,
        model_key=arrival.model_key,
        file_dtype=file_dtype,
        model_dtype=model_dtype,
    )


def _is_mistyped(difference: DtypeDifference) -> bool:
    return ("float" in difference.file_dtype) != ("float" in difference.model_dtype)
