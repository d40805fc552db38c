"""Checkpoints of a running stage: whole or not there, and resumed to the bit.

In: a model, an optimizer and a scheduler, plain or sharded. Out: a folder of safetensors and JSON, no pickle; tensors
are whole, so a run may resume on another number of processes.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from theworld.checkpoints.tensor_files import write_tensors

WEIGHTS, OPTIMIZER, PROGRESS, MANIFEST = "weights.safetensors", "optimizer.safetensors", "progress.json", "files.json"
_SCRATCH = ".saving-"
_FOLDER = re.compile(r"checkpoint-(\d+)")


def scratch_of(target: Path) -> Path:
    """The folder that is written first, beside the one that it becomes."""
    return target.with_name(f"{_SCRATCH}{target.name}")


def start_writing(target: Path) -> Path:
    """Make an empty scratch folder for `target`; what a killed process left there goes."""
    scratch = scratch_of(target)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def note_sizes(scratch: Path) -> None:
    """Write down which files there are, so that one that is lost or cut is seen."""
    sizes = {path.name: path.stat().st_size for path in sorted(scratch.iterdir())}
    (scratch / MANIFEST).write_text(json.dumps(sizes, indent=2) + "\n")


def publish(target: Path) -> None:
    """Make the scratch folder `target`, in one step, after all of it is on the disk."""
    scratch = scratch_of(target)
    for path in (*scratch.iterdir(), scratch):
        _flush(path)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(scratch, target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_whole(folder: Path) -> bool:
    """Whether every file that was written is there, in its size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text())
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def checkpoints(stage_folder: Path) -> list[Path]:
    """A stage's whole checkpoints, oldest first."""
    found = {int(m[1]): path for path in stage_folder.glob("checkpoint-*") if (m := _FOLDER.fullmatch(path.name))}
    return [path for _, path in sorted(found.items()) if is_whole(path)]


def remove_old(stage_folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for path in checkpoints(stage_folder)[:-keep]:
        shutil.rmtree(path)


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU; a shard is gathered, for which all processes must call this."""
    full_tensor = getattr(tensor, "full_tensor", None)
    whole = full_tensor() if full_tensor is not None else tensor
    return whole.detach().to("cpu", copy=True).contiguous()


def fill(target: torch.Tensor, whole: torch.Tensor) -> None:
    """Copy a whole tensor into a plain or a sharded one, in place."""
    with torch.no_grad():
        target.copy_(_like(target, whole))


def _like(target: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """A whole tensor on the target's device, sharded as it is; its dtype is its own."""
    mesh = getattr(target, "device_mesh", None)
    if mesh is None:
        return whole.to(target.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(target.device), mesh, target.placements)  # pyrefly: ignore[missing-attribute]


def trained_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that train, whole, by name; all processes must call this."""
    return {name: whole_tensor(p) for name, p in model.named_parameters() if p.requires_grad}


def _optimizer_parameters(model: Any, optimizer: Any) -> Iterator[tuple[str, torch.Tensor, dict[str, Any]]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter in optimizer.state:
            yield name, parameter, optimizer.state[parameter]


def optimizer_tensors(model: Any, optimizer: Any) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """An optimizer's state as "parameter|key": tensors, and plain numbers; all processes must call this.

    Raises:
        ValueError: for a state that is of another kind of tensor.
    """
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, float] = {}
    for name, _, state in _optimizer_parameters(model, optimizer):
        for key, value in state.items():
            if not torch.is_tensor(value):
                numbers[f"{name}|{key}"] = value
                continue
            whole = whole_tensor(value)
            if type(whole) is not torch.Tensor:
                raise ValueError(f"the optimizer keeps {type(whole).__name__}, which safetensors cannot hold")
            tensors[f"{name}|{key}"] = whole
    return tensors, numbers


def load_optimizer(model: Any, optimizer: Any, tensors: dict[str, torch.Tensor], numbers: dict[str, float]) -> None:
    """Put a saved state into a fresh optimizer.

    Raises:
        ValueError: if it is of other parameters.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    named: dict[str, dict[str, Any]] = {}
    for path, value in {**tensors, **numbers}.items():
        name, _, key = path.rpartition("|")
        named.setdefault(name, {})[key] = value
    if set(named) - set(parameters):
        raise ValueError(f"the checkpoint's optimizer knows {min(set(named) - set(parameters))}, which does not train")
    for name, state in named.items():
        parameter = parameters[name]
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.ndim:
                state[key] = _like(parameter, value)
            elif torch.is_tensor(value) and value.ndim:
                state[key] = value.to(parameter.device)
        optimizer.state[parameter] = state


def save_random_state(path: Path) -> None:
    """Write the state of Python's, NumPy's and torch's generators."""
    tensors = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    name, keys, *rest = np.random.get_state()
    numpy_state = [name, np.asarray(keys).tolist(), *rest]
    write_tensors(tensors, path, {"python": json.dumps(random.getstate()), "numpy": json.dumps(numpy_state)})


def load_random_state(path: Path) -> None:
    """Set all generators to what was saved."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        (version, internal, gauss), numpy_state = (json.loads(file.metadata()[key]) for key in ("python", "numpy"))
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(numpy_state))
    torch.random.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
