"""What in an audit of keys forbids loading, in words.

In: a `KeyAudit`. Out: one line a problem, each with a key and the fix; a `ValueError` of one line for all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from theworld.checkpoints.error_text import one_line, shown_name
from theworld.checkpoints.key_audit import DtypeDifference, KeyAudit, ShapeDifference

_MAX_SHOWN_KEYS = 3
_MAX_ERROR = 1500


def key_problems(
    audit: KeyAudit, *, ignore_mismatched: bool = False, leave_out: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Say what is wrong, the cause first.

    Args:
        ignore_mismatched: whether the caller asked for tensors of other shapes to be passed over.
        leave_out: beginnings of keys that the caller leaves out on purpose, such as those of the world branch.
    """
    unexpected = [key for key in audit.unexpected if not key.startswith(leave_out)] if leave_out else audit.unexpected
    problems: list[str] = []
    if audit.num_file_keys and len(audit.unexpected) == audit.num_file_keys and audit.num_model_keys:
        why = f"all hold {audit.surplus!r}, which the model's do not" if audit.surplus else _first(unexpected)
        problems.append(
            f"none of the {len(unexpected)} keys in its files belong to the model ({why}); "
            "save the unwrapped model, or rename the keys"
        )
        return tuple(problems)
    if audit.empty:
        problems.append(
            f"{_count(audit.empty, 'tensor')} stored without elements ({_shape(audit.empty[0])}); "
            "gather sharded parameters before saving"
        )
    if audit.mistyped:
        problems.append(f"{_count(audit.mistyped, 'tensor')} mis-typed ({_dtype(audit.mistyped[0])}); save it again")
    if audit.mismatched and not ignore_mismatched:
        blamed = (
            f"config.json: {audit.suspect} does not fit the weights" if audit.suspect else "config.json or the file"
        )
        problems.append(
            f"{_count(audit.mismatched, 'tensor')} of another shape ({_shape(audit.mismatched[0])}); {blamed}"
        )
    if unexpected:
        hint = f"without {audit.surplus!r} they would be the model's" if audit.surplus else "it has no place for them"
        problems.append(f"{_count(unexpected, 'unexpected key')} ({_first(unexpected)}); {hint}")
    if audit.missing and not audit.surplus:  # else they are there under other names
        lost = f"; {audit.index_missing[0]} is in the index and in no shard" if audit.index_missing else ""
        problems.append(
            f"{_count(audit.missing, 'missing key')} ({_first(audit.missing)}){one_line(lost)}; "
            "nothing is left random: give the complete weights"
        )
    if audit.duplicated:
        problems.append(f"{_count(audit.duplicated, 'key')} twice in the files ({_first(audit.duplicated)}); keep one")
    return tuple(problems)


def require_matching_keys(audit: KeyAudit, *, ignore_mismatched: bool = False, leave_out: tuple[str, ...] = ()) -> None:
    """Raise a `ValueError` that names what is wrong with a checkpoint's keys, if anything is."""
    problems = key_problems(audit, ignore_mismatched=ignore_mismatched, leave_out=leave_out)
    if problems:
        raise ValueError(one_line(f"{one_line(audit.folder)}: {'; '.join(problems)}", _MAX_ERROR))


def require_complete(
    name: object,
    info: Mapping[str, Any],
    *,
    ignore_mismatched: bool = False,
    leave_out: tuple[str, ...] = (),
) -> None:
    """Raise a `ValueError` unless a library's own account of a load names no lost key.

    Args:
        name: the folder or hub id that was loaded.
        info: as `from_pretrained(..., output_loading_info=True)` gives it.
    """
    left = ", ".join(
        f"{_count(keys, word)} ({_first(keys)})"
        for word, keys in (
            ("missing key", sorted(info.get("missing_keys", ()))),
            (
                "unexpected key",
                sorted(k for k in info.get("unexpected_keys", ()) if not k.startswith(leave_out or "\0")),
            ),
            (
                "key of another shape",
                [] if ignore_mismatched else sorted(k[0] for k in info.get("mismatched_keys", ())),
            ),
        )
        if keys
    )
    if left:
        text = f"{one_line(name)}: {left}; nothing is left random: give the complete weights of this model"
        raise ValueError(one_line(text, _MAX_ERROR))


def _count(items: Sequence[object], word: str) -> str:
    noun, _, rest = word.partition(" of ")
    plural = noun if len(items) == 1 else f"{noun}s"
    return f"{len(items):,} {plural}{f' of {rest}' if rest else ''}"


def _first(keys: Sequence[str]) -> str:
    shown = ", ".join(shown_name(key) for key in keys[:_MAX_SHOWN_KEYS])
    return f"{shown}, ..." if len(keys) > _MAX_SHOWN_KEYS else shown


def _shape(item: ShapeDifference) -> str:
    found = "no shape that converts" if item.file_shape is None else str(item.file_shape)
    return f"{shown_name(item.key)} in {item.file} is {found}, the model's is {item.model_shape}"


def _dtype(item: DtypeDifference) -> str:
    return f"{shown_name(item.key)} in {item.file} is {item.file_dtype}, the model's is {item.model_dtype}"
