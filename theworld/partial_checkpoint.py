"""Trainable-only checkpoints: the weights that train, beside the name and digest of their base.

In: a model, or such a folder. Out: the folder, or the trained weights copied into a model whose base is
the very one that they were trained on. The file is not called model.safetensors, so that no other
loader takes it for a whole model.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoint_files import checkpoint_digest, read_json_object, read_safetensors_header
from theworld.freezing import FreezeConfig

BASE_FILE = "theworld_base.json"
WEIGHTS_FILE = "trainable.safetensors"
_SCHEMA = "theworld-trainable/1"
_DERIVED_FIELDS = (
    "vae_config",
    "cosmos_model_name_or_path",
    "world_token_id",
    "start_of_world_token_id",
    "end_of_world_token_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a trainable-only checkpoint stands on; the digests are of the safetensors files on disk."""

    name_or_path: str
    digest: str
    cosmos_model_name_or_path: str
    cosmos_digest: str
    world: dict[str, Any]
    trainable: tuple[str, ...]

    @property
    def freeze(self) -> FreezeConfig:
        """The freeze configuration that the weights were trained under."""
        return FreezeConfig(trainable=self.trainable)

    def load_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `TheWorld.from_pretrained` that rebuild the model."""
        return {"cosmos_model_name_or_path": self.cosmos_model_name_or_path, "world": self.world}


def is_partial_checkpoint(name_or_path: Any) -> bool:
    """Whether a local folder is a trainable-only checkpoint."""
    return Path(str(name_or_path), BASE_FILE).is_file()


def read_base(folder: Any) -> Base:
    """Read which base a trainable-only checkpoint names.

    Raises:
        ValueError: if a field is missing, or the schema is another one.
    """
    path = Path(folder, BASE_FILE)
    values = read_json_object(path)
    if values.pop("schema", None) != _SCHEMA:
        raise ValueError(f"{path}: field schema is not {_SCHEMA!r}; save the checkpoint with this release")
    missing = sorted(set(Base.__dataclass_fields__) - set(values))
    if missing:
        raise ValueError(f"{path}: missing field {', '.join(missing)}; save the checkpoint again")
    values["trainable"] = tuple(values["trainable"])
    return Base(**{name: values[name] for name in Base.__dataclass_fields__})


def _weights_folder(name_or_path: str, *, subfolder: str | None = None) -> Path:
    """Find the local folder of a checkpoint's weights, in the hub's cache where it is a hub id."""
    folder = Path(name_or_path)
    if not folder.is_dir():
        from transformers.utils import cached_file

        inside = f"{subfolder}/config.json" if subfolder else "config.json"
        found = cached_file(name_or_path, inside, local_files_only=True)
        if found is None:
            raise ValueError(f"{name_or_path}: not in the hub's cache; load the model once before saving it")
        return Path(found).parent
    return folder / subfolder if subfolder and (folder / subfolder).is_dir() else folder


def _digests(name_or_path: str, cosmos: str) -> tuple[str, str]:
    return (
        checkpoint_digest(_weights_folder(name_or_path)),
        checkpoint_digest(_weights_folder(cosmos, subfolder="vae")),
    )


def save_trainable(model: Any, save_directory: Any) -> None:
    """Write the trainable parameters, and what they stand on, to a folder; the base must still be there.

    Raises:
        ValueError: if nothing is trainable, or the model was not loaded from a base checkpoint.
    """
    from safetensors.torch import save_file

    from theworld.components import parameters_by_component

    world_config = model.world_config
    components = parameters_by_component(model)
    trainable = {
        name: parameter.detach().cpu().contiguous()
        for parameters in components.values()
        for name, parameter in parameters.items()
        if parameter.requires_grad
    }
    if not trainable:
        raise ValueError("no parameter is trainable; set a freeze preset before saving with trainable_only=True")
    base_name, cosmos = model.config.name_or_path, world_config.cosmos_model_name_or_path
    if not base_name or not cosmos:
        raise ValueError("the model does not know its base checkpoint; save it whole, without trainable_only")
    whole = {name: all(p.requires_grad for p in ps.values()) for name, ps in components.items()}
    partly = [n for n, ps in components.items() if not whole[n] and any(p.requires_grad for p in ps.values())]
    if partly:
        raise ValueError(f"only a part of {', '.join(partly)} is trainable; save the model whole")
    base_digest, cosmos_digest = _digests(base_name, cosmos)
    base = Base(
        name_or_path=base_name if not Path(base_name).is_dir() else str(Path(base_name).resolve()),
        digest=base_digest,
        cosmos_model_name_or_path=cosmos if not Path(cosmos).is_dir() else str(Path(cosmos).resolve()),
        cosmos_digest=cosmos_digest,
        world={k: v for k, v in asdict(world_config).items() if k not in _DERIVED_FIELDS},
        trainable=tuple(name for name in components if whole[name]),
    )
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    # Weights first, then the file that makes the folder a checkpoint: a killed save leaves none.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        save_file(trainable, Path(scratch, WEIGHTS_FILE), metadata={"format": "pt"})
        Path(scratch, BASE_FILE).write_text(json.dumps({"schema": _SCHEMA, **asdict(base)}, indent=2) + "\n")
        for name in (WEIGHTS_FILE, BASE_FILE):
            os.replace(Path(scratch, name), folder / name)


def verify_base(folder: Path, base: Base) -> None:
    """Check, before anything is loaded, that the base on disk is the one that was trained on.

    Raises:
        ValueError: if a digest differs.
    """
    found = _digests(base.name_or_path, base.cosmos_model_name_or_path)
    for what, where, expected, actual in zip(
        ("base checkpoint", "Cosmos VAE"),
        (base.name_or_path, base.cosmos_model_name_or_path),
        (base.digest, base.cosmos_digest),
        found,
        strict=True,
    ):
        if expected != actual:
            raise ValueError(
                f"{folder}: trained on a {what} with digest {expected}, and {where} has {actual}; "
                f"restore the original files, or edit {BASE_FILE} to name the right folder"
            )


def load_trainable(model: Any, folder: Path) -> None:
    """Copy trained weights into a model that was just loaded from their base.

    Raises:
        ValueError: if names or shapes differ from the model's.
    """
    from safetensors.torch import load_file
    from torch import no_grad

    path = folder / WEIGHTS_FILE
    read_safetensors_header(path)
    weights = load_file(path)
    parameters = {name: p for name, p in model.named_parameters() if name in weights}
    unknown = sorted(set(weights) - set(parameters))
    if unknown:
        raise ValueError(f"{path}: the model has no parameter {unknown[0]}; it was saved from another configuration")
    with no_grad():
        for name, weight in weights.items():
            if parameters[name].shape != weight.shape:
                raise ValueError(
                    f"{path}: {name} is {tuple(weight.shape)}, the model's is {tuple(parameters[name].shape)}"
                )
            parameters[name].copy_(weight)
