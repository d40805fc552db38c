"""Loading in any release: the model, and what became of every key.

In: a request. Out: the loaded model, and `Loading`: what the library says of its keys, and which tensors differ
between two loads with different seeds, whatever it says: those came from no file.
"""

import gc
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld_validate.fingerprint.tree import iterate_buffers, iterate_parameters
from theworld_validate.releases.requests import Loading, Request
from theworld_validate.subjects.targets import resolve_target
from theworld_validate.subjects.wrappers import unwrap

_DTYPE_SINCE = (4, 56)  # before that, transformers called the argument torch_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a loader returned, and what became of the checkpoint's keys."""

    model: Any
    facts: Loading


def load_twice(request: Request) -> Loaded:
    """Load a request's checkpoint with two seeds, and keep the second model."""
    target = resolve_target(request.target)
    return load_with(target, request.checkpoint, request, twice=True)


def load_with(target: Any, checkpoint: str, request: Request, *, twice: bool = False) -> Loaded:
    """Load any checkpoint as a request says.

    Args:
        twice: with two seeds, so that `Loading.random` is known; empty otherwise.
    """
    import torch

    digests: list[dict[str, str]] = []
    loaded: Any = None
    info: dict[str, Any] = {}
    for seed in (request.seed + 1, request.seed)[not twice :]:
        if loaded is not None:  # a large one must be gone before the next comes
            loaded = None
            gc.collect()
        torch.manual_seed(seed)
        loaded, info = _load(target, checkpoint, request)
        digests.append(dict(_digests(unwrap(loaded, target=request.target).model)))
    first, second = digests[0], digests[-1]
    random = tuple(sorted(name for name in second if first.get(name) != second[name]))
    buffers = {name for name, _, _ in iterate_buffers(unwrap(loaded, target=request.target).model)}
    held = set(_names_in_files(checkpoint)) if random else set()
    facts = Loading(
        num_keys=len(second),
        missing=_names(info.get("missing_keys")),
        unexpected=_names(info.get("unexpected_keys")),
        mismatched=_names(info.get("mismatched_keys")),
        random=random,
        drawn_anew=tuple(name for name in random if name in held - buffers),
        unset_buffers=tuple(name for name in random if name in buffers - held),
    )
    return Loaded(model=loaded, facts=facts)


def _load(target: Any, checkpoint: str, request: Request) -> tuple[Any, dict[str, Any]]:
    import torch

    arguments: dict[str, Any] = {_dtype_argument(): getattr(torch, request.dtype)}
    if request.attn is not None:
        arguments["attn_implementation"] = request.attn
    if request.device != "cpu":
        arguments["device_map"] = request.device if request.device == "auto" else {"": request.device}
    if not isinstance(target, type):
        return target(checkpoint, **arguments), {}
    loader: Callable[..., Any] = getattr(target, "from_pretrained")  # noqa: B009 - a type has none of its own
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(loader).parameters.values()):
        found = loader(checkpoint, output_loading_info=True, **arguments)
        return found if isinstance(found, tuple) else (found, {})
    return loader(checkpoint, **arguments), {}


def _dtype_argument() -> str:
    """What this release calls the dtype that weights are loaded in."""
    import transformers

    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= _DTYPE_SINCE else "torch_dtype"


def _names_in_files(checkpoint: str) -> Iterator[str]:
    """What a local checkpoint's files hold; nothing of one that is read by its hub id."""
    from safetensors import safe_open

    for file in sorted(Path(checkpoint).glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            yield from opened.keys()


def _names(found: Any) -> tuple[str, ...]:
    return tuple(sorted(str(item[0] if isinstance(item, (tuple, list)) else item) for item in found or ()))


def _digests(model: Any) -> Iterator[tuple[str, str]]:
    """A checksum of each parameter and buffer, for comparison within this process."""
    import torch
    import xxhash

    tensors: list[tuple[str, torch.Tensor]] = [*iterate_parameters(model)]
    tensors += [(name, buffer) for name, buffer, _ in iterate_buffers(model)]
    for name, tensor in tensors:
        if tensor.is_meta:
            yield name, "meta"
            continue
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        yield name, xxhash.xxh3_128_hexdigest(raw.tobytes())
