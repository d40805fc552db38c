"""theworld_base.json: what a trainable-only checkpoint stands on.

In: the file. Out: a `Base`, every field of which was checked, or a `ValueError` that names the field.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import read_json_object
from theworld.checkpoints.error_text import file_error, shown_name
from theworld.checkpoints.field_rules import field_error
from theworld.components import COMPONENT_NAMES
from theworld.configuration_theworld import WorldConfig
from theworld.freezing import FreezeConfig

BASE_FILE = "theworld_base.json"
SCHEMA = "theworld-trainable/2"
FIRST_SCHEMA = "theworld-trainable/1"  # the digest of the base's tensors alone
_DERIVED_FIELDS = (
    "vae_config",
    "cosmos_model_name_or_path",
    "world_token_id",
    "start_of_world_token_id",
    "end_of_world_token_id",
)
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a trainable-only checkpoint stands on.

    Args:
        name_or_path: of the Gemma 3 checkpoint, or of a TheWorld checkpoint with a branch of its own.
        digests: of its files, as `theworld.base_digests` has them.
        cosmos_model_name_or_path: of the VAE; None where the base has its own branch.
        cosmos_digests: of the VAE's files.
        world: the settings of the branch; None where the base has its own.
        trainable: the components that were trained.
        tensors: what `trainable.safetensors` holds: name -> dtype and shape; None in a folder of the first release.
    """

    name_or_path: str
    digests: Mapping[str, str]
    cosmos_model_name_or_path: str | None
    cosmos_digests: Mapping[str, str]
    world: dict[str, Any] | None
    trainable: tuple[str, ...]
    tensors: Mapping[str, str] | None

    @property
    def freeze(self) -> FreezeConfig:
        """The freeze configuration that the weights were trained under."""
        return FreezeConfig(trainable=self.trainable)

    def load_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `TheWorld.from_pretrained` that rebuild the model."""
        if self.cosmos_model_name_or_path is None:
            return {}
        return {"cosmos_model_name_or_path": self.cosmos_model_name_or_path, "world": self.world}


def world_settings(world_config: WorldConfig) -> dict[str, Any]:
    """The fields of a world config that the base and the VAE do not give."""
    return {key: value for key, value in asdict(world_config).items() if key not in _DERIVED_FIELDS}


def read_base(folder: Any) -> Base:
    """Read which base a trainable-only checkpoint names.

    Raises:
        ValueError: if the schema is another one, or a field is missing, unknown, of another type or out of range.
    """
    path = Path(folder, BASE_FILE)
    values = read_json_object(path)
    schema = values.pop("schema", None)
    if schema not in (SCHEMA, FIRST_SCHEMA):
        raise file_error(
            path, f"field schema is {shown_name(schema)}, not {SCHEMA!r}", "save the checkpoint with this release"
        )
    if schema == FIRST_SCHEMA:
        values = _from_first_schema(path, values)
    missing = sorted(set(Base.__dataclass_fields__) - set(values))
    if missing:
        raise file_error(path, f"missing field {', '.join(missing)}", "save the checkpoint again")
    unknown = sorted(set(values) - set(Base.__dataclass_fields__))
    if unknown:
        raise file_error(path, f"unknown field {shown_name(unknown[0])}", "save the checkpoint again")
    _check_fields(str(path), values)
    values["trainable"] = tuple(values["trainable"])
    return Base(**values)


def _from_first_schema(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    missing = sorted({"digest", "cosmos_digest"} - set(values))
    if missing:
        raise file_error(path, f"missing field {', '.join(missing)}", "save the checkpoint again")
    return {
        **{key: value for key, value in values.items() if key not in ("digest", "cosmos_digest")},
        "digests": {"weights": values["digest"]},
        "cosmos_digests": {"weights": values["cosmos_digest"]},
        "tensors": None,
    }


def _check_fields(where: str, values: Mapping[str, Any]) -> None:
    def require(field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise field_error(where, field, values[field], expected)

    own_branch = values["cosmos_model_name_or_path"] is None and values["world"] is None
    require("name_or_path", _is_name(values["name_or_path"]), "a folder or a hub id")
    require("digests", _are_digests(values["digests"]), "a map of file names to digests")
    if not own_branch:
        name = "cosmos_model_name_or_path"
        require(name, _is_name(values[name]), "a folder or a hub id")
        require("world", isinstance(values["world"], dict), "an object")
        derived = sorted(set(values["world"]) & set(_DERIVED_FIELDS))
        require("world", not derived, "without the fields that its base gives")
        try:
            WorldConfig.from_dict({**values["world"], "vae_config": {}})
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: field world: {error}") from error
    is_bound = _are_digests(values["cosmos_digests"]) or (own_branch and values["cosmos_digests"] == {})
    require("cosmos_digests", is_bound, "a map of file names to digests")
    trainable = values["trainable"]
    is_list = isinstance(trainable, list) and bool(trainable) and all(isinstance(name, str) for name in trainable)
    require("trainable", is_list and set(trainable) <= set(COMPONENT_NAMES), f"a list of {', '.join(COMPONENT_NAMES)}")
    tensors = values["tensors"]
    is_map = isinstance(tensors, dict) and bool(tensors) and all(isinstance(held, str) for held in tensors.values())
    require("tensors", tensors is None or is_map, "a map of parameters' names to dtype and shape")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _are_digests(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("weights"), str)
        and all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in value.values())
    )
