"""Loaders of any family's checkpoint with one fault each, and where each must be placed."""

import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from theworld_validate.faults.base import integers
from theworld_validate.faults.places import middle, module_in, norm_in, weight_in
from theworld_validate.subjects.architectures import architecture_of


def load(checkpoint: str, **arguments: Any) -> Any:
    return architecture_of(checkpoint).model_class.from_pretrained(checkpoint, **arguments)


def flipped_bit(checkpoint: str, **arguments: Any) -> Any:
    model = load(checkpoint, **arguments)
    integers(weight_in(model)).view(-1)[3] ^= 1
    return model


def key_to_lose(checkpoint: str, weights: Collection[str]) -> str:
    """The key that is lost: one of a checkpoint's file that is a weight's name."""
    (file,) = Path(checkpoint).glob("*.safetensors")
    tensors = load_file(file)
    return middle([key for key in tensors if key in weights] or [key for key in tensors if tensors[key].ndim == 2])


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
    parameter = norm_in(model)
    parameter.data = parameter.data.double()
    return model


def hook(checkpoint: str, **arguments: Any) -> Any:
    model = load(checkpoint, **arguments)
    module_in(model).register_forward_hook(lambda *_: None)
    return model


def eager(checkpoint: str, **arguments: Any) -> Any:
    return load(checkpoint, **{**arguments, "attn_implementation": "eager"})
