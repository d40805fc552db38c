"""Trainable-only checkpoints: the weights that train, beside the name and digests of their base.

In: a model, or such a folder. Out: the folder, or the trained weights copied into a model whose base is
the very one that they were trained on. The file is not called model.safetensors, so that no other
loader takes it for a whole model.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from theworld.base_digests import WEIGHTS, base_digests, changed_files
from theworld.checkpoints.bounded_files import is_folder, is_regular_file, read_json_object
from theworld.checkpoints.error_text import file_error, one_line, shown_name
from theworld.checkpoints.safetensors_header import FLOATING_DTYPES, TensorEntry, read_safetensors_header
from theworld.checkpoints.tokenizer_files import load_tokenizer
from theworld.checkpoints.weight_files import Layout
from theworld.configuration_theworld import TheWorldConfig, WorldConfig
from theworld.partial_base import BASE_FILE, SCHEMA, Base, world_settings
from theworld.published_names import published_name
from theworld.world_tokens import add_world_tokens

WEIGHTS_FILE = "trainable.safetensors"
CONFIG_FILE = "config.json"
LOADED = "_theworld_loaded_trainable"  # on a model: names of parameters that came from a trainable-only checkpoint
_MAX_SHOWN = 3
# One file, an index or a shard, each of a variant too; an adapter has one file.
_OPENED = re.compile(
    r"model(\.[^.]+)?(-\d{5}-of-\d{5})?(\.[^.]+)?\.safetensors|model\.safetensors\.index(\.[^.]+)?\.json"
    r"|adapter_model\.safetensors"
)


def is_partial_checkpoint(name_or_path: Any) -> bool:
    """Whether a local folder is a trainable-only checkpoint."""
    folder = Path(str(name_or_path))
    return name_or_path is not None and is_folder(folder) and is_regular_file(folder / BASE_FILE)


def whole_weights(folder: Path) -> list[str]:
    """Names of the files in a folder that a loader opens as a whole model's weights, or as an adapter's."""
    return sorted(path.name for path in folder.glob("*model*") if _OPENED.fullmatch(path.name) and path.is_file())


def check_unambiguous(folder: Path) -> None:
    """Check that no other weights lie in a trainable-only folder, which would be newer or older than its own.

    Raises:
        ValueError: if there are; both ways out are named.
    """
    if others := whole_weights(folder):
        raise file_error(
            folder,
            f"holds {shown_name(others[0])} and a trainable-only checkpoint",
            f"remove the one that is not meant: {BASE_FILE} and {WEIGHTS_FILE}, or {shown_name(others[0])}",
        )


def remove_trainable(folder: Path) -> None:
    """Remove the trainable-only checkpoint of a folder in which a whole one was just written.

    The file that makes it one goes first: a folder of which a killed process left both is refused, and never taken
    for either.
    """
    if not is_partial_checkpoint(folder):
        return
    for name in (BASE_FILE, WEIGHTS_FILE):
        (folder / name).unlink(missing_ok=True)


def _base_folder(name_or_path: str, *, field: str, where: Path, subfolder: str | None = None) -> Path:
    """Find the local folder of a base's weights, in the hub's cache where it is a hub id.

    Raises:
        ValueError: if the base is not on this machine.
    """
    folder = Path(name_or_path)
    if is_folder(folder):
        return folder / subfolder if subfolder and is_folder(folder / subfolder) else folder
    fix = f"put it back, or edit field {field} of {BASE_FILE}"
    if folder.is_absolute() or len(folder.parts) != 2:
        raise file_error(where, f"its base {one_line(name_or_path)} is not there", fix)
    from transformers.utils import cached_file

    inside = f"{subfolder}/config.json" if subfolder else "config.json"
    try:
        found = cached_file(name_or_path, inside, local_files_only=True)
    except (OSError, ValueError) as error:
        raise file_error(
            where,
            f"its base {one_line(name_or_path)} is no folder, and not in the hub's cache",
            f"download it, or edit field {field} of {BASE_FILE}",
        ) from error
    if found is None:
        raise file_error(where, f"its base {one_line(name_or_path)} is not in the hub's cache", fix)
    return Path(found).parent


def _digests_of(name_or_path: str, layout: Layout, *, where: Path) -> dict[str, str]:
    if layout == "transformers":
        return base_digests(_base_folder(name_or_path, field="name_or_path", where=where), layout)
    field = "cosmos_model_name_or_path"
    return base_digests(_base_folder(name_or_path, field=field, where=where, subfolder="vae"), layout)


def _absolute(name_or_path: str) -> str:
    return str(Path(name_or_path).resolve()) if Path(name_or_path).is_dir() else name_or_path


def save_trainable(model: Any, save_directory: Any) -> None:
    """Write the trainable parameters, and what they stand on, to a folder; the base must still be there.

    Parameters that a trainable-only checkpoint brought into the model are written too, frozen or not.

    Raises:
        ValueError: if nothing is trainable, the model was not loaded from a base checkpoint or has other rows of
            embeddings than it, a parameter is offloaded, or whole weights lie in the folder.
    """
    from safetensors.torch import save_file

    from theworld.components import parameters_by_component

    world_config = model.world_config
    components = parameters_by_component(model)
    loaded = getattr(model, LOADED, frozenset())
    written = {
        name: parameter
        for parameters in components.values()
        for name, parameter in parameters.items()
        if parameter.requires_grad or name in loaded
    }
    whole = {name: all(p.requires_grad for p in ps.values()) for name, ps in components.items()}
    if not any(p.requires_grad for ps in components.values() for p in ps.values()):
        raise ValueError("no parameter is trainable; set a freeze preset before saving with trainable_only=True")
    base_name, cosmos = model.config.name_or_path, world_config.cosmos_model_name_or_path
    if not base_name or not cosmos:
        raise ValueError("the model does not know its base checkpoint; save it whole, without trainable_only")
    partly = [n for n, ps in components.items() if not whole[n] and any(p.requires_grad for p in ps.values())]
    if partly:
        raise ValueError(f"only a part of {', '.join(partly)} is trainable; save the model whole")
    if offloaded := [name for name, parameter in written.items() if parameter.is_meta]:
        raise ValueError(f"{published_name(offloaded[0])} trains, and device_map offloads it; save the model whole")
    folder = Path(save_directory)
    if others := whole_weights(folder):
        raise file_error(
            folder,
            f"holds {shown_name(others[0])}, whose config.json would be replaced",
            "save with trainable_only=True to a folder of its own",
        )
    base_folder = _base_folder(base_name, field="name_or_path", where=folder)
    has_own_branch = has_branch(base_folder)
    _check_rows(model, TheWorldConfig.from_pretrained(base_folder) if has_own_branch else base_folder)
    bound: dict[str, Any] = {
        "name_or_path": _absolute(base_name),
        "digests": _digests_of(base_name, "transformers", where=folder),
        "cosmos_model_name_or_path": None if has_own_branch else _absolute(cosmos),
        "cosmos_digests": {} if has_own_branch else _digests_of(cosmos, "diffusers", where=folder),
        "world": None if has_own_branch else world_settings(world_config),
        "trainable": tuple(name for name in components if whole[name]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Weights first, then the file that makes the folder a checkpoint: a killed save leaves none.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        kept = {published_name(name): parameter.detach().cpu().contiguous() for name, parameter in written.items()}
        save_file(kept, Path(scratch, WEIGHTS_FILE), metadata={"format": "pt"})
        base = Base(**bound, tensors=_held(read_safetensors_header(Path(scratch, WEIGHTS_FILE))))
        Path(scratch, BASE_FILE).write_text(json.dumps({"schema": SCHEMA, **asdict(base)}, indent=2) + "\n")
        model.config.dtype = str(model.dtype).removeprefix("torch.")  # as in a whole save: the model may have been cast
        model.config.to_json_file(Path(scratch, CONFIG_FILE))  # by which the Auto classes know what to load
        for name in (WEIGHTS_FILE, CONFIG_FILE, BASE_FILE):
            os.replace(Path(scratch, name), folder / name)


def _held(entries: Mapping[str, TensorEntry]) -> dict[str, str]:
    return {name: f"{entry.dtype} {list(entry.shape)}" for name, entry in entries.items()}


def _check_rows(model: Any, base: TheWorldConfig | Path) -> None:
    """Check that the model has the rows of embeddings that loading its base gives back; they are not written.

    Args:
        base: the config of a base with its own branch, or the folder of a Gemma 3, to which the branch adds its tokens.

    Raises:
        ValueError: if it was resized.
    """
    if isinstance(base, TheWorldConfig):
        expected = base.get_text_config().vocab_size
    else:
        settings: WorldConfig = model.world_config
        expected = add_world_tokens(load_tokenizer(base), settings.world_token).vocab_size
    rows = model.get_input_embeddings().weight.shape[0]
    if rows != expected:
        raise ValueError(
            f"the embedding was resized to {rows:,} rows, and the base gives back {expected:,}; "
            "save the model whole, without trainable_only"
        )


def has_branch(folder: Path) -> bool:
    """Whether a local checkpoint has a world branch of its own, as its config.json says."""
    return read_json_object(folder / "config.json").get("world_config") is not None


def verify_base(folder: Path, base: Base) -> None:
    """Check, before anything is loaded, that the base on disk is the one that was trained on.

    Raises:
        ValueError: if a file of it is missing or differs; the file is named.
    """
    bases: list[tuple[str, str, Layout, Mapping[str, str]]] = [
        ("base checkpoint", base.name_or_path, "transformers", base.digests)
    ]
    if base.cosmos_model_name_or_path is not None:
        bases.append(("Cosmos VAE", base.cosmos_model_name_or_path, "diffusers", base.cosmos_digests))
    for what, name, layout, recorded in bases:
        found = _digests_of(name, layout, where=folder)
        if base.tensors is None:  # the first release bound a checkpoint to its base's tensors only
            found = {WEIGHTS: found[WEIGHTS]}
        changed = changed_files(recorded, found)
        if changed:
            raise file_error(
                folder,
                f"trained on another {what}: in {one_line(name)}, {', '.join(map(shown_name, changed[:_MAX_SHOWN]))} "
                "changed since",
                f"restore the original files, or edit {BASE_FILE} to name the right folder",
            )


def check_trainable_file(folder: Path, base: Base) -> None:
    """Check the weights' file of a trainable-only checkpoint, from its header.

    Raises:
        ValueError: if it is missing, a pickle lies in its place, or a tensor is missing, unknown or not floating.
    """
    path = folder / WEIGHTS_FILE
    if not is_regular_file(path):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        instead = f" ({shown_name(pickles[0])} is a pickle, which is never opened)" if pickles else ""
        raise file_error(path, f"missing{instead}", "save the checkpoint again, or restore the file")
    entries = read_safetensors_header(path)
    held = _held(entries)
    if base.tensors is not None and held != base.tensors:
        name = min(n for n in {**held, **base.tensors} if held.get(n) != base.tensors.get(n))
        what = f"{shown_name(name)} is {held.get(name, 'missing')}, and {base.tensors.get(name, 'nothing')} was saved"
        raise file_error(path, what, "restore the file, or save the checkpoint again")
    if not entries:
        raise file_error(path, "holds no tensor", "restore the file, or save the checkpoint again")
    for name, entry in entries.items():
        if entry.dtype not in FLOATING_DTYPES:
            raise file_error(path, f"{shown_name(name)} is {entry.dtype}, expected floating point", "restore the file")
