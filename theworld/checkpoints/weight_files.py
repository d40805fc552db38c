"""Which weight files a loader would really open in a folder, and which ones it would pass by.

In: a folder, and whose loader reads it (transformers' or diffusers'). Out: the safetensors files in order, and
what they shadow. A folder whose weights would come from a pickle is refused: no pickle is ever opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from theworld.checkpoints.bounded_files import MAX_INDEX_BYTES, MAX_NAME_LENGTH, is_regular_file, read_json_object
from theworld.checkpoints.error_text import file_error, shown_name

Layout = Literal["transformers", "diffusers"]
STEMS: Mapping[Layout, str] = {"transformers": "model", "diffusers": "diffusion_pytorch_model"}
_PICKLED_STEMS: Mapping[Layout, str] = {"transformers": "pytorch_model", "diffusers": "diffusion_pytorch_model"}
_WEIGHT_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "flax_model", "tf_model", "consolidated")
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin.index.json")
_WEIGHT_SUFFIXES = (*_PICKLE_SUFFIXES, ".safetensors", ".safetensors.index.json", ".msgpack", ".h5", ".gguf", ".npz")
_MAX_SHARDS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """What a loader opens in a folder.

    Args:
        files: the safetensors files, in the order in which they are opened.
        index: the index that names them, if there is one.
        weight_map: the index's own: key -> file name.
        shadowed: names of further weight files in the folder, which the loader does not open.
    """

    folder: Path
    files: tuple[Path, ...]
    index: Path | None = None
    weight_map: Mapping[str, str] = field(default_factory=dict)
    shadowed: tuple[str, ...] = ()


def resolve_weight_files(folder: Path, layout: Layout = "transformers", *, variant: str | None = None) -> WeightFiles:
    """Find the files as the loader does: transformers takes one file before an index, diffusers an index before one.

    Raises:
        ValueError: if there is none, only a pickle, a single file beside the shards of an index, or a bad index.
    """
    stem = STEMS[layout]
    single = folder / _with_variant(f"{stem}.safetensors", variant)
    index = folder / _with_variant(f"{stem}.safetensors.index.json", variant)
    has_single, has_index = is_regular_file(single), is_regular_file(index)
    if layout == "transformers" and (named := _named_in_config(folder)):
        has_single, has_index = not named.endswith(".index.json"), named.endswith(".index.json")
        single = index = folder / named
    if not has_single and not has_index:
        raise _no_weights(folder, layout)
    if has_single and has_index:
        _check_no_rival(folder, single, index, layout)
    if has_index and (layout == "diffusers" or not has_single):
        weight_map = read_index(index)
        names = sorted(set(weight_map.values()))
        missing = [name for name in names if not is_regular_file(folder / name)]
        if missing:
            raise file_error(
                folder,
                f"missing shard {', '.join(map(shown_name, missing[:3]))}, which {index.name} names",
                "download the missing files into the folder",
            )
        files = tuple(folder / name for name in names)
        opened = {index.name, *names}
    else:
        weight_map, files, opened = {}, (single,), {single.name}
    return WeightFiles(
        folder=folder,
        files=files,
        index=index if weight_map else None,
        weight_map=weight_map,
        shadowed=tuple(name for name in _weight_file_names(folder) if name not in opened),
    )


def read_index(path: Path) -> dict[str, str]:
    """Read the weight map of an index of shards: key -> name of a file in the same folder.

    Raises:
        ValueError: if the index is malformed, or a name is not a plain file name.
    """
    index = read_json_object(path, max_bytes=MAX_INDEX_BYTES)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise file_error(path, "field weight_map is missing or empty", "download the index again")
    if not isinstance(index.get("metadata"), dict):
        raise file_error(path, "field metadata is missing or not an object", "download the index again")
    for key, name in weight_map.items():
        if not is_plain_name(name) or not name.endswith(".safetensors"):
            raise file_error(
                path,
                f"weight_map[{shown_name(key)}] is {shown_name(name)}, not the name of a safetensors file beside it",
                "download the index again",
            )
    if len(set(weight_map.values())) > _MAX_SHARDS:
        raise file_error(path, f"names more than {_MAX_SHARDS:,} shards", "download the index again")
    return weight_map


def is_plain_name(name: Any) -> bool:
    """Whether this is a file's bare name: printable, without path parts, short enough for a file system."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and name not in ("", ".", "..")
        and not any(part in name for part in "/\\")
        and len(name.encode("utf-8", "replace")) <= MAX_NAME_LENGTH
    )


def check_adapter_files(folder: Path) -> Path | None:
    """The adapter's weights, where the folder holds an adapter, which transformers and PEFT load by itself.

    Raises:
        ValueError: if its weights are missing or pickled, or its config is malformed.
    """
    config = folder / "adapter_config.json"
    if not is_regular_file(config):
        return None
    read_json_object(config)
    weights = folder / "adapter_model.safetensors"
    if not is_regular_file(weights):
        pickled = [name for name in ("adapter_model.bin", "adapter_model.pt") if is_regular_file(folder / name)]
        what = f"holds {pickled[0]}, a pickle, which is never opened, and no" if pickled else "has no"
        raise file_error(folder, f"{what} adapter_model.safetensors", "save the adapter as safetensors")
    return weights


def _with_variant(name: str, variant: str | None) -> str:
    if not variant:
        return name
    stem, dot, rest = name.partition(".")
    return f"{stem}.{variant}{dot}{rest}" if rest == "safetensors" else f"{stem}.safetensors.index.{variant}.json"


def _named_in_config(folder: Path) -> str | None:
    """The file that config.json itself names as the weights, which transformers then opens."""
    path = folder / "config.json"
    named = read_json_object(path).get("transformers_weights") if is_regular_file(path) else None
    if named is None:
        return None
    if not is_plain_name(named) or not named.endswith((".safetensors", ".safetensors.index.json")):
        raise file_error(
            path,
            f"transformers_weights is {shown_name(named)}, not the name of a safetensors file beside it",
            "remove the field, or name the safetensors file or index",
        )
    if not is_regular_file(folder / named):
        raise file_error(path, f"transformers_weights names {named}, which is missing", "download the file")
    return named


def _check_no_rival(folder: Path, single: Path, index: Path, layout: Layout) -> None:
    shards = sorted(set(read_index(index).values()) - {single.name})
    if not any(is_regular_file(folder / name) for name in shards):
        return  # an index that a later, smaller save left behind
    opened, shadowed = (single.name, index.name) if layout == "transformers" else (index.name, single.name)
    raise file_error(
        folder,
        f"holds {single.name} and the shards of {index.name}: {layout} opens {opened}, and {shadowed} is shadowed",
        "remove the one that is not meant",
    )


def _no_weights(folder: Path, layout: Layout) -> ValueError:
    pickles = [name for name in _weight_file_names(folder) if name.endswith(_PICKLE_SUFFIXES)]
    stem = STEMS[layout]
    if pickles:
        read = f"{_PICKLED_STEMS[layout]}.bin"
        return file_error(
            folder,
            f"no {stem}.safetensors, nor an index of shards: {layout} would read {shown_name(pickles[0])}"
            + ("" if pickles[0].startswith(read[:-4]) else " at best")
            + ", a pickle, which is never opened",
            "save the weights as safetensors",
        )
    return file_error(
        folder, f"no {stem}.safetensors, nor an index of shards", "give a folder with safetensors weights"
    )


def _weight_file_names(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name.startswith(_WEIGHT_STEMS) and path.name.endswith(_WEIGHT_SUFFIXES)
    )
