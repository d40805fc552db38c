"""Loaders of any family's checkpoint with one fault each, and where each must be placed."""

import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from theworld_validate.documents.observations import Section
from theworld_validate.subjects.architectures import architecture_of

_NORMS = ("norm", "ln_", "layernorm", "layer_norm")


def load(checkpoint: str, **arguments: Any) -> Any:
    return architecture_of(checkpoint).model_class.from_pretrained(checkpoint, **arguments)


def _middle(names: list[str]) -> str:
    return names[len(names) // 2]


def weights_of(parameters: Section) -> list[str]:
    """The names of matrices, of what was observed of the reference."""
    return [name for name, seen in parameters.items() if str(seen.get("shape")).count(",") == 1]


def middle_weight(parameters: Section) -> str:
    """The weight that is spoilt."""
    return _middle(weights_of(parameters))


def middle_module(modules: Section) -> str:
    return _middle([name for name in modules if not name.startswith("(")])


def first_norm(parameters: Section) -> str:
    names = [name for name in parameters if any(word in name.lower() for word in _NORMS)]
    return names[0] if names else ""


def _weight(model: Any) -> Any:
    names = [name for name, parameter in model.named_parameters() if parameter.ndim == 2]
    return model.get_parameter(_middle(names))


def flipped_bit(checkpoint: str, **arguments: Any) -> Any:
    model = load(checkpoint, **arguments)
    _weight(model).detach().view(torch.int32).view(-1)[3] ^= 1
    return model


def key_to_lose(checkpoint: str, weights: Collection[str]) -> str:
    """The key that is lost: one of a checkpoint's file that is a weight's name."""
    (file,) = Path(checkpoint).glob("*.safetensors")
    tensors = load_file(file)
    return _middle([key for key in tensors if key in weights] or [key for key in tensors if tensors[key].ndim == 2])


def is_of_key(parameter: str, key: str) -> bool:
    """Whether a parameter is what a file's key becomes: of the same name, or equal from its layer on."""
    return parameter == key or parameter.split(".")[-4:] == key.split(".")[-4:]


def lost_key(checkpoint: str, **arguments: Any) -> Any:
    """A checkpoint without one key that is a parameter's name."""
    lost = key_to_lose(
        checkpoint, {name for name, p in load(checkpoint, **arguments).named_parameters() if p.ndim == 2}
    )
    folder = Path(tempfile.mkdtemp()) / "lost"
    shutil.copytree(checkpoint, folder)
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    save_file({key: tensor for key, tensor in tensors.items() if key != lost}, file, metadata={"format": "pt"})
    return load(str(folder), **arguments)


def upcast_norm(checkpoint: str, **arguments: Any) -> Any:
    model = load(checkpoint, **arguments)
    name = first_norm({name: {} for name, _ in model.named_parameters()})
    parameter = model.get_parameter(name)
    parameter.data = parameter.data.double()
    return model


def hook(checkpoint: str, **arguments: Any) -> Any:
    model = load(checkpoint, **arguments)
    modules = [module for name, module in model.named_modules() if name]
    modules[len(modules) // 2].register_forward_hook(lambda *_: None)
    return model


def eager(checkpoint: str, **arguments: Any) -> Any:
    return load(checkpoint, **{**arguments, "attn_implementation": "eager"})
