"""Where an adapter's files are, which must be safetensors.

In: an adapter's folder or hub id, and how it is downloaded. Out: a folder here that holds its config and
adapter_model.safetensors. transformers takes adapter_model.bin, a pickle, where it finds no such file, whatever
`use_safetensors` says.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import is_folder, is_regular_file
from theworld.checkpoints.error_text import file_error, summary
from theworld.checkpoints.weight_files import check_adapter_files

CONFIG_FILE = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
OF_ANY_DOWNLOAD = ("cache_dir", "force_download", "local_files_only", "proxies", "token")  # of a call, whatever it gets
_DOWNLOAD = (*OF_ANY_DOWNLOAD, "revision", "subfolder")


def find_adapter(source: Any, hub_arguments: Mapping[str, Any]) -> Path:
    """Find the folder of an adapter's files, downloaded where it is a hub id.

    Args:
        source: its folder or hub id.
        hub_arguments: those of transformers' downloads; a `subfolder` holds for a folder too.

    Raises:
        ValueError: if there is no adapter_model.safetensors, or it cannot be had.
    """
    asked = {name: hub_arguments[name] for name in _DOWNLOAD if hub_arguments.get(name) is not None}
    if is_folder(Path(source)):
        folder = Path(source, asked.get("subfolder", ""))
        if check_adapter_files(folder) is None and not is_regular_file(folder / _WEIGHTS):
            raise file_error(folder, f"has no {_WEIGHTS}", "give an adapter's folder")
        return folder
    from transformers.utils import cached_file

    try:
        # Both from one snapshot: transformers then looks for nothing in the hub by itself.
        found = [cached_file(str(source), name, **asked) for name in (CONFIG_FILE, _WEIGHTS)]
    except OSError as error:
        what = f"no adapter as safetensors is to be had from the hub, and a pickle is never opened ({summary(error)})"
        raise file_error(source, what, "give an adapter that was saved as safetensors") from error
    return Path(str(found[-1])).parent


def use_safetensors_alone(call: MutableMapping[str, Any]) -> None:
    """Have a call of transformers' `load_adapter` read a folder that is known to hold safetensors.

    Args:
        call: its arguments by name, those that it hands on under "kwargs"; changed in place.

    Raises:
        ValueError: if there is no adapter_model.safetensors, or it cannot be had.
    """
    config, handed_on = call.get("load_config"), call.get("kwargs", {})
    source = call.get("peft_model_id") or getattr(config, "pretrained_model_name_or_path", None)
    if source is None or call.get("adapter_state_dict") is not None:
        return
    download = handed_on.pop("download_kwargs", None) or getattr(config, "download_kwargs", None) or {}
    hub_arguments = {**download, **(call.get("adapter_kwargs") or {})}
    if call.pop("local_files_only", False):
        hub_arguments["local_files_only"] = True
    call["peft_model_id"] = str(find_adapter(source, hub_arguments))
    call["adapter_kwargs"] = None
    call.setdefault("kwargs", {})["download_kwargs"] = {}
