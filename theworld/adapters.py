"""PEFT's adapters that transformers saves and loads: a folder of adapter weights, which names its base.

In: what `from_pretrained` was given. Out: the base to load in its place, and the adapter put on the model once its
branch is there. transformers would look for the adapter's layers before the branch is added.
"""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import is_folder, is_regular_file, read_json_object
from theworld.checkpoints.error_text import one_line
from theworld.checkpoints.field_rules import field_error
from theworld.checkpoints.key_problems import require_complete
from theworld.checkpoints.weight_files import check_adapter_files
from theworld.partial_checkpoint import has_branch, is_partial_checkpoint

log = logging.getLogger("theworld.adapters")
CONFIG_FILE = "adapter_config.json"
_SOURCE = "_adapter_model_path"  # what transformers' Auto classes hand over


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter, and the model that it belongs to.

    Args:
        source: its folder, or hub id.
        base: the folder or hub id of the model.
        name: the name that it gets in the model.
        hub_arguments: of the download of a hub id.
    """

    source: str
    base: Any
    name: str
    hub_arguments: Mapping[str, Any]

    def put_on(self, model: Any, *, offload_folder: Any = None) -> dict[str, Any]:
        """Load the adapter into a model, frozen, as transformers does; return transformers' account of it.

        Raises:
            ValueError: if PEFT is not installed, or the adapter's weights are not those of this model.
        """
        if importlib.util.find_spec("peft") is None:
            raise ValueError(f"{one_line(self.source)}: an adapter, which needs PEFT; pip install peft")
        told = model.load_adapter(
            self.source,
            adapter_name=self.name,
            adapter_kwargs=dict(self.hub_arguments),
            dtype=model.dtype,
            disk_offload_folder=offload_folder,
        )
        info = told.to_dict()
        require_complete(self.source, info)
        return info


def take_adapter(name_or_path: Any, kwargs: dict[str, Any]) -> Adapter | None:
    """Find the adapter that a load is to end with, and take its arguments out of `kwargs`.

    A folder that holds a whole model beside its adapter is transformers' own matter.

    Raises:
        ValueError: if the adapter names no base, or its weights are missing or a pickle.
    """
    asked = dict(kwargs.get("adapter_kwargs") or {})
    source = asked.pop(_SOURCE, None)
    base = name_or_path
    if source is None and isinstance(name_or_path, str | Path):
        folder = Path(name_or_path, kwargs.get("subfolder") or "")
        if is_folder(folder) and is_regular_file(folder / CONFIG_FILE):
            source = str(folder)
            whole = is_partial_checkpoint(folder) or is_regular_file(folder / "config.json")
            base = source if whole else _base_of(folder)
    if source is None:
        return None
    check_adapter_files(Path(str(source)))  # of a hub id there is nothing to look at yet
    if str(base) == str(source):
        return None
    kwargs.pop("adapter_kwargs", None)
    if base is not name_or_path:
        kwargs.pop("subfolder", None)
    return Adapter(source=str(source), base=base, name=kwargs.pop("adapter_name", "default"), hub_arguments=asked)


def _base_of(folder: Path) -> str:
    path = folder / CONFIG_FILE
    base = read_json_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base or not base.isprintable():
        raise field_error(str(path), "base_model_name_or_path", base, "the folder or hub id of the adapter's model")
    return base


def check_says_branch(adapter: Adapter, *, enable_world: bool | None, cosmos: str | None) -> None:
    """Check that it is known whether an adapter on a local Gemma 3 is to get a world branch: its folder cannot say.

    Raises:
        ValueError: if not; both ways are named.
    """
    base = Path(str(adapter.base))
    if enable_world is not None or cosmos or not is_folder(base):
        return
    if not is_partial_checkpoint(base) and not has_branch(base):
        raise ValueError(
            f"{one_line(adapter.source)}: an adapter whose base {one_line(base)} has no world branch; "
            "name a Cosmos repository as cosmos_model_name_or_path, or pass enable_world=False"
        )


def warn_of_unsaved_branch(model: Any, folder: Any) -> None:
    """Say, where only an adapter is saved, that the base which it names has no branch and comes back without one."""
    base = Path(str(model.config.name_or_path))
    if not model.enable_world or (is_folder(base) and is_regular_file(base / "config.json") and has_branch(base)):
        return
    log.warning(
        "%s: holds the adapter alone, and its base %s has no world branch: the Auto classes load it without one; "
        "before an adapter is added, save the model whole and load it from there",
        one_line(folder),
        one_line(base),
    )
