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

from theworld.adapter_files import CONFIG_FILE, OF_ANY_DOWNLOAD, find_adapter
from theworld.checkpoints.bounded_files import is_folder, is_regular_file, read_json_object
from theworld.checkpoints.error_text import file_error, not_reachable, one_line, summary
from theworld.checkpoints.field_rules import field_error
from theworld.checkpoints.key_problems import require_complete
from theworld.configuration_theworld import TheWorldConfig
from theworld.partial_checkpoint import LOADED, has_branch, is_partial_checkpoint

log = logging.getLogger("theworld.adapters")
_SOURCE = "_adapter_model_path"  # what transformers' Auto classes hand over


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter, and the model that it belongs to.

    Args:
        source: its folder, or hub id.
        base: the folder or hub id of the model.
        name: the name that it gets in the model.
        folder: where its files are: of a hub id, in the hub's cache.
    """

    source: str
    base: Any
    name: str
    folder: Path

    def put_on(self, model: Any, *, offload_folder: Any = None) -> dict[str, Any]:
        """Load the adapter into a model, frozen, as transformers does; return transformers' account of it.

        Raises:
            ValueError: if PEFT is not installed, or the adapter's config or weights are not those of this model.
        """
        if importlib.util.find_spec("peft") is None:
            raise ValueError(f"{one_line(self.source)}: an adapter, which needs PEFT; pip install 'peft>=0.20'")
        try:
            told = model.load_adapter(
                str(self.folder),
                adapter_name=self.name,
                dtype=model.dtype,
                disk_offload_folder=offload_folder,
                ignore_mismatched_sizes=True,  # they are in the account, and named below; transformers would name none
            )
        # Of the weights, of the files, of a PEFT that is too old, and of fields of the config: PEFT checks them itself.
        except (RuntimeError, OSError, ImportError, ValueError, TypeError, KeyError) as error:
            raise file_error(self.source, summary(error), "give the adapter of this model") from error
        info = told.to_dict()
        require_complete(self.source, info)
        return info


def take_adapter(name_or_path: Any, kwargs: dict[str, Any]) -> Adapter | None:
    """Find the adapter that a load is to end with, and take its arguments out of `kwargs`.

    A folder that holds a whole model beside its adapter is transformers' own matter. What the call says of downloads
    holds for the adapter's too, but for the revision, which is the base's.

    Raises:
        ValueError: if the adapter names no base, or its weights are missing or a pickle.
    """
    asked = {name: kwargs[name] for name in OF_ANY_DOWNLOAD if name in kwargs} | (kwargs.get("adapter_kwargs") or {})
    source = asked.pop(_SOURCE, None)
    base, named = name_or_path, Path(str(name_or_path), kwargs.get("subfolder") or "")
    if source is None:
        asked.setdefault("subfolder", kwargs.get("subfolder"))
        if not isinstance(name_or_path, str | Path) or not is_folder(Path(name_or_path)):
            return None
        if not is_regular_file(Path(name_or_path, asked["subfolder"] or "", CONFIG_FILE)):
            return None
        source = name_or_path
    folder, is_here = find_adapter(source, asked), is_folder(Path(str(source)))
    if str(source) == str(name_or_path):  # an Auto class hands over the base of any other
        if not is_here:
            return None  # a repository that names itself
        if not is_partial_checkpoint(named) and not is_regular_file(named / "config.json"):
            base = _base_of(folder)
            kwargs.pop("subfolder", None)
        elif is_regular_file(named / CONFIG_FILE):
            return None
    kwargs.pop("adapter_kwargs", None)
    shown = str(folder if is_here else source)
    return Adapter(source=shown, base=base, name=kwargs.pop("adapter_name", "default"), folder=folder)


def _base_of(folder: Path) -> str:
    path = folder / CONFIG_FILE
    base = read_json_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base or not base.isprintable():
        raise field_error(str(path), "base_model_name_or_path", base, "the folder or hub id of the adapter's model")
    return base


def check_says_branch(
    adapter: Adapter, *, enable_world: bool | None, cosmos: str | None, hub_kwargs: Mapping[str, Any]
) -> None:
    """Check that it is known whether an adapter on a Gemma 3 is to get a world branch: its folder cannot say.

    Args:
        hub_kwargs: where in the base's folder or repository its config is, and how it is downloaded.

    Raises:
        ValueError: if not; both ways are named. Or if the base has no config that can be read.
    """
    base = adapter.base
    if enable_world is not None or cosmos or is_partial_checkpoint(Path(base, hub_kwargs.get("subfolder") or "")):
        return
    try:
        values, _ = TheWorldConfig.read_values(base, **hub_kwargs)
    except OSError as error:
        raise not_reachable(base, error) from error
    if values.get("world_config") is None:
        raise ValueError(
            f"{one_line(adapter.source)}: an adapter whose base {one_line(base)} has no world branch; "
            "name a Cosmos repository as cosmos_model_name_or_path, or pass enable_world=False"
        )


def check_base_is_whole(model: Any, folder: Any) -> None:
    """Check, where only an adapter is saved, that the base which it names has what a trainable-only folder brought.

    Raises:
        ValueError: if not: the adapter would come back on weights without it.
    """
    if not getattr(model, LOADED, None):
        return
    for config in model.peft_config.values():
        base = config.base_model_name_or_path
        if not is_partial_checkpoint(base):
            raise file_error(
                folder,
                f"would hold the adapter alone, whose base {one_line(base)} lacks what the model was loaded with from "
                "a trainable-only checkpoint",
                "save the model whole first, and add the adapter to what is loaded from there",
            )


def warn_of_unsaved_branch(model: Any, folder: Any) -> None:
    """Say, where only an adapter is saved, that the base which it names has no branch and comes back without one."""
    base = Path(str(model.config.name_or_path))
    if getattr(model, LOADED, None):  # such a folder says what branch its base gets
        return
    if not model.enable_world or (is_folder(base) and is_regular_file(base / "config.json") and has_branch(base)):
        return
    log.warning(
        "%s: holds the adapter alone, and its base %s has no world branch: the Auto classes load it without one; "
        "before an adapter is added, save the model whole and load it from there",
        one_line(folder),
        one_line(base),
    )
