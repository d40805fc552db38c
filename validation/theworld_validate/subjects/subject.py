"""Subjects: how one model is loaded. Nothing else in the harness knows how to load.

In: a class (or factory) by name, a checkpoint, dtype, device and attention. Out: a loaded model in the
state that its class leaves it in, or an `InputError` with the file and the fix.
"""

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld_validate.results import InputError

REFERENCE_TARGET = "transformers:Gemma3ForConditionalGeneration"
CANDIDATE_TARGET = "theworld:TheWorld"
DTYPES = ("bfloat16", "float16", "float32")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flex_attention")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model to be loaded.

    Args:
        target: "module:name" of a `PreTrainedModel` class, or of a function called as its `from_pretrained`.
        checkpoint: a local folder or a hub id.
        dtype: one of `DTYPES`.
        device: "cpu", "cuda", "cuda:N", or "auto" for transformers' own device map.
        attn: an attention implementation; None leaves it to transformers.
        cosmos: the Cosmos repository of the world branch, for a `TheWorld`; None loads it with the branch off.
        freeze: the name of a freeze preset, for a `TheWorld` with its branch on.
        seed: set before loading, so that a random draw while loading shows.
    """

    target: str
    checkpoint: str
    dtype: str = "bfloat16"
    device: str = "cpu"
    attn: str | None = None
    cosmos: str | None = None
    freeze: str | None = None
    seed: int = 0

    def load(self) -> Any:
        """Load the model.

        Raises:
            InputError: if the target or the checkpoint cannot be used.
        """
        import torch

        loader: Any = resolve_target(self.target)
        check_checkpoint(self.checkpoint)
        arguments: dict[str, Any] = {"dtype": getattr(torch, self.dtype)}
        if self.attn is not None:
            arguments["attn_implementation"] = self.attn
        arguments |= device_map_of(self.device)
        if isinstance(loader, type):
            from theworld.modeling_theworld import TheWorld

            if issubclass(loader, TheWorld):
                arguments["enable_world"] = self.cosmos is not None
                if self.cosmos is not None:
                    arguments |= {"cosmos_model_name_or_path": self.cosmos, "freeze": self.freeze}
            loader = getattr(loader, "from_pretrained", loader)
        torch.manual_seed(self.seed)
        try:
            return loader(self.checkpoint, **arguments)
        except OSError as error:
            for name in (self.checkpoint, self.cosmos):
                if name is not None and not Path(name).is_dir():
                    raise not_on_the_hub(name) from error
            raise self._cannot_load(error) from error
        except ValueError as error:
            raise self._cannot_load(error) from error

    def _cannot_load(self, error: BaseException) -> InputError:
        return InputError(f"{self.target} cannot load {self.checkpoint}: {' '.join(str(error).split())}")


def not_on_the_hub(name: str) -> InputError:
    """The error for a hub id that is neither in the cache nor to be had."""
    return InputError(
        f"{name}: not on this machine, and the hub did not give it; check the id, the network and "
        "your access (hf auth login), or name a local folder"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


def device_map_of(device: str) -> dict[str, Any]:
    """What `from_pretrained` is told of a device; nothing for the CPU."""
    if device == "cpu":
        return {}
    return {"device_map": device if device == "auto" else {"": device}}


def resolve_target(target: str) -> Any:
    """Find "module:name"; the working directory is searched too.

    Raises:
        InputError: if there is no such module or name.
    """
    module_name, separator, name = target.partition(":")
    if not separator or not module_name or not name:
        raise InputError(f"{target!r} is not of the form module:Class, such as {CANDIDATE_TARGET}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or module_name.split(".")[0] != error.name.split(".")[0]:
            raise
        raise InputError(f"{target}: no module {module_name!r}; install it, or run from the folder it is in") from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise InputError(f"{target}: module {module_name!r} has no {name!r}") from error


def check_checkpoint(checkpoint: str) -> None:
    """Check a Gemma 3 checkpoint before anything is loaded: a folder's files, or a hub id's form.

    Raises:
        InputError: with the file or field, and the fix.
    """
    from theworld.checkpoint_files import check_safetensors_folder, read_json_object
    from theworld.configuration_theworld import TheWorldConfig

    folder = Path(checkpoint)
    if not folder.is_dir():
        if folder.exists() or not _HUB_ID.fullmatch(checkpoint):
            raise InputError(f"{checkpoint}: no such folder, nor a hub id of the form owner/name")
        return
    try:
        check_safetensors_folder(folder)
        TheWorldConfig.adopt(read_json_object(folder / "config.json"), source=checkpoint)
    except ValueError as error:
        raise InputError(str(error)) from error


def read_config(checkpoint: str) -> Any:
    """Read a checkpoint's Gemma 3 configuration.

    Raises:
        InputError: if there is none, a field is wrong, or the hub cannot be reached.
    """
    from huggingface_hub.errors import StrictDataclassError

    from theworld.configuration_theworld import TheWorldConfig

    check_checkpoint(checkpoint)
    try:
        return TheWorldConfig.from_pretrained(checkpoint)
    except OSError as error:
        if Path(checkpoint).is_dir():
            raise InputError(f"{checkpoint}/config.json: {_first_line(error)}") from error
        raise not_on_the_hub(checkpoint) from error
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise InputError(f"{checkpoint}/config.json: {' '.join(str(error).split())}") from error
