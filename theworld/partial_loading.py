"""Loading a trainable-only checkpoint: its base first, then what was trained.

In: such a folder, and what the caller of `from_pretrained` asked for. Out: the loaded model, in the dtype in which it
was saved unless another is asked for, with a head or without.
"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from theworld.checkpoints.bounded_files import is_regular_file, read_json_object
from theworld.checkpoints.error_text import file_error, one_line, shown_name
from theworld.checkpoints.field_rules import field_error
from theworld.configuration_theworld import TheWorldConfig
from theworld.freezing import FreezeConfig
from theworld.partial_base import Base, read_base
from theworld.partial_checkpoint import (
    CONFIG_FILE,
    LOADED,
    WEIGHTS_FILE,
    check_trainable_file,
    check_unambiguous,
    verify_base,
)
from theworld.published_names import INNER, WORLD_PREFIXES

_HEAD = "lm_head."


def load_partial(cls: Any, folder: Path, *model_args: Any, freeze: FreezeConfig | None, **kwargs: Any) -> Any:
    """Load a model of class `cls`; the arguments are those of `TheWorld.from_pretrained`.

    Raises:
        ValueError: if the folder or its base cannot be read, the base is another one, or an argument is not heeded.
    """
    check_unambiguous(folder)
    base = read_base(folder)
    _drop_own_config(folder, kwargs)
    if all(kwargs.get(name) in (None, "auto") for name in ("dtype", "torch_dtype")):
        kwargs.pop("torch_dtype", None)
        kwargs["dtype"] = _saved_dtype(folder)
    check_trainable_file(folder, base)
    verify_base(folder, base)
    loaded = cls.from_pretrained(
        base.name_or_path, *model_args, **{**kwargs, **base.load_arguments()}, freeze=freeze or base.freeze
    )
    if not isinstance(loaded, tuple):
        load_trainable(loaded, folder, base)
        return loaded
    model, info = loaded
    filled = load_trainable(model, folder, base)
    return model, {**info, "missing_keys": set(info["missing_keys"]) - filled}


def _saved_dtype(folder: Path) -> Any:
    """The dtype that config.json names, which is the saved model's; None where there is no such file or field."""
    import torch

    path = folder / CONFIG_FILE
    name = read_json_object(path).get("dtype") if is_regular_file(path) else None
    if name is None:
        return None
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise field_error(str(path), "dtype", name, "a floating-point dtype of torch")
    return dtype


def _drop_own_config(folder: Path, kwargs: dict[str, Any]) -> None:
    """Drop the folder's own config, which the Auto classes hand over: the base and what it says decide.

    Raises:
        ValueError: if it is another one, which would not be heeded.
    """
    given = kwargs.pop("config", None)
    if given is None:
        return
    own = TheWorldConfig.from_pretrained(folder) if is_regular_file(folder / CONFIG_FILE) else None
    if not isinstance(given, PreTrainedConfig) or own is None or _settings(own) != _settings(given):
        raise ValueError(f"{one_line(folder)}: a trainable-only checkpoint is loaded as its base is; leave config out")
    if given._attn_implementation is not None:  # asked of an Auto class, which hands it over there alone
        kwargs.setdefault("attn_implementation", given._attn_implementation)


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in ("dtype", "_name_or_path")}


def load_trainable(model: Any, folder: Path, base: Base) -> frozenset[str]:
    """Copy trained weights into a model that was just loaded from their base; the head's only where it has one.

    Returns:
        The names, in the model, of the parameters that were filled.

    Raises:
        ValueError: if names or shapes differ from the model's, a trained parameter is missing or offloaded, or a value
            is not finite.
    """
    import torch
    from safetensors.torch import load_file

    from theworld.components import parameters_by_component

    path = folder / WEIGHTS_FILE
    check_trainable_file(folder, base)
    # By their names in the inner model: AutoModel makes it without the head that it was saved with, or the other way.
    parameters = {_inner_name(name): parameter for name, parameter in model.named_parameters()}
    weights = {_inner_name(name): weight for name, weight in load_file(path).items()}
    if model.get_output_embeddings() is None:
        weights = {name: weight for name, weight in weights.items() if not name.startswith(_HEAD)}
    components = parameters_by_component(model)
    trained = [_inner_name(name) for component in base.trainable for name in components.get(component, {})]
    unknown = sorted(set(weights) - set(parameters))
    if unknown:
        raise file_error(
            path,
            f"the model has no parameter {shown_name(_file_name(unknown[0]))}",
            "it was saved from another configuration",
        )
    missing = [name for name in trained if name not in weights]
    if missing:
        raise file_error(path, f"lacks {_file_name(missing[0])}, which was trained", "restore the file, or save again")
    for name, weight in weights.items():
        shown = _file_name(name)
        if parameters[name].shape != weight.shape:
            shapes = f"{tuple(weight.shape)}, the model's is {tuple(parameters[name].shape)}"
            raise file_error(path, f"{shown} is {shapes}", "it was saved from another configuration")
        if not torch.isfinite(weight.float()).all():
            raise file_error(path, f"{shown} holds values that are not finite", "give weights of a run that went well")
        if parameters[name].is_meta:  # copying into it would do nothing
            raise file_error(
                path,
                f"{shown} was trained, and device_map offloads it",
                "load the checkpoint without device_map, save it whole, and load that folder with device_map",
            )
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
    filled = frozenset(name for name, _ in model.named_parameters() if _inner_name(name) in weights)
    setattr(model, LOADED, filled)
    model.name_or_path = str(folder.resolve())  # an adapter names it as its base, which alone has what was filled
    return filled


def _inner_name(name: str) -> str:
    return name.removeprefix(INNER)


def _file_name(inner: str) -> str:
    """As a model with a head names it in files."""
    return inner if inner.startswith((*WORLD_PREFIXES, _HEAD)) else f"{INNER}{inner}"
