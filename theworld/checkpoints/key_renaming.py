"""From a checkpoint's keys to a model's parameters, exactly as transformers goes.

In: a model on the meta device, and the headers of its files. Out: for each file key the name it gets in the model, and
the shape and dtype that would arrive there. transformers' own conversions do the work: nothing is listed here.
"""

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from theworld.checkpoints.safetensors_header import TORCH_DTYPE_NAMES, TensorEntry


def build_on_meta(model_class: Any, config: Any) -> Any:
    """Build a transformers model without memory, initialisation or a random draw; `config` is not changed."""
    import torch
    from transformers import initialization

    with ExitStack() as stack:
        stack.enter_context(torch.device("meta"))
        stack.enter_context(initialization.no_init_weights())
        stack.enter_context(initialization.meta_device_safe_creation_ops())
        return model_class(copy.deepcopy(config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What file keys become one tensor of the model."""

    model_key: str
    file_keys: tuple[str, ...]
    shape: tuple[int, ...] | None  # None where the conversion itself fails
    dtype: str | None  # torch's name


class KeyRenaming:
    """The renamings and conversions of one model; without a transformers model, keys keep their names."""

    def __init__(self, model: Any, *, key_mapping: Mapping[str, str] | None = None) -> None:
        self._model = model
        self._tensors: dict[str, Any] = model.state_dict()
        self._renamings: list[Any] = []
        self._converters: list[Any] = []
        self._base_prefix: str | None = getattr(model, "base_model_prefix", None)
        if hasattr(model, "base_model_prefix"):
            from transformers.conversion_mapping import get_model_conversion_mapping
            from transformers.core_model_loading import WeightConverter, WeightRenaming

            mapping = get_model_conversion_mapping(model, dict(key_mapping) if key_mapping else None)
            self._renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
            self._converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]

    def rename(self, key: str) -> tuple[str, str | None]:
        """The name that a file's key gets, and the pattern of the conversion that takes part, if one does."""
        if self._base_prefix is None:
            return key, None
        from transformers.core_model_loading import rename_source_key

        renamed, pattern = rename_source_key(key, self._renamings, self._converters, self._base_prefix, self._tensors)
        if renamed not in self._tensors and key in self._tensors:
            renamed, pattern = rename_source_key(key, [], [], self._base_prefix, self._tensors)
        return renamed, pattern

    def knows(self, key: str) -> bool:
        """Whether a file's key belongs to the model."""
        return self.rename(key)[0] in self._tensors

    def arrivals(self, entries: Mapping[str, TensorEntry]) -> tuple[list[Arrival], list[str]]:
        """Sort a file's keys into what arrives in the model, and keys that the model has no place for."""
        plain: dict[str, list[str]] = {}
        converted: dict[str, tuple[str, list[tuple[str, str]]]] = {}
        unexpected: list[str] = []
        for key in _in_load_order(entries):
            renamed, pattern = self.rename(key)
            if renamed not in self._tensors:
                unexpected.append(key)
            elif pattern is None:
                plain.setdefault(renamed, []).append(key)
            else:
                converted.setdefault(renamed, (pattern, []))[1].append((pattern, key))
        arrivals = [
            Arrival(
                model_key=name,
                file_keys=tuple(keys),
                shape=entries[keys[0]].shape,
                dtype=TORCH_DTYPE_NAMES.get(entries[keys[0]].dtype),
            )
            for name, keys in plain.items()
        ]
        for name, (pattern, parts) in converted.items():
            arrivals += self._convert(name, pattern, parts, entries)
        return arrivals, unexpected

    def _convert(
        self, name: str, pattern: str, parts: list[tuple[str, str]], entries: Mapping[str, TensorEntry]
    ) -> list[Arrival]:
        """Run a conversion on tensors without memory: merging experts, splitting a fused projection, and so on."""
        import torch

        converter = copy.deepcopy(next(c for c in self._converters if pattern in c.source_patterns))
        keys = tuple(key for _, key in parts)
        for part_pattern, key in parts:
            dtype = getattr(torch, TORCH_DTYPE_NAMES.get(entries[key].dtype, "float32"))
            converter.add_tensor(name, key, part_pattern, torch.empty(entries[key].shape, dtype=dtype, device="meta"))
        try:
            made = converter.convert(name, model=self._model, config=self._model.config)
        except Exception:  # whatever an operation says of shapes that do not fit: the load would fail there too
            return [Arrival(model_key=name, file_keys=keys, shape=None, dtype=None)]
        tensors = {key: value[0] if isinstance(value, list) else value for key, value in made.items()}
        return [
            Arrival(
                model_key=key,
                file_keys=keys,
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
            )
            for key, tensor in tensors.items()
        ]


def _in_load_order(entries: Mapping[str, TensorEntry]) -> list[str]:
    from transformers.core_model_loading import dot_natural_key

    return sorted(entries, key=dot_natural_key)
