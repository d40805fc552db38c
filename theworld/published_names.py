"""The names of the world branch's tensors: in files, and in a model.

In: a name. Out: the other. Files are named as they were published, "world_projection.linear.weight" beside Gemma's
"language_model.model...."; in the model the branch lies in the inner model, "model.world_projection.linear.weight".
"""

from typing import Any

WORLD_MODULES = ("world_encoder", "world_projection", "temporal_embedding")
WORLD_PREFIXES = tuple(f"{name}." for name in WORLD_MODULES)
_TOWER = "vision_tower"
INNER = "model."  # where a model with a head keeps the model inside
EITHER_WAY = (*WORLD_PREFIXES, *(f"{INNER}{prefix}" for prefix in WORLD_PREFIXES))


def published_name(name: str) -> str:
    """The name in files of a parameter; Gemma's own keep theirs, which transformers maps."""
    inner = name.removeprefix(INNER)
    return inner if inner.startswith(WORLD_PREFIXES) else name


def world_renamings() -> list[Any]:
    """transformers' renaming of published names to parameters' names; it is reversed where a model is saved."""
    return [_renaming(*WORLD_MODULES)]


def register_renamings(model_type: str, inner_class: str) -> None:
    """Tell transformers how files are named: it renames by model type, and for the inner model by its class.

    Files are named as Gemma 3's are. Its renaming of the vision tower also takes the branch's names: one renaming for
    all four, so that each has keys to rename in a model without a branch too.
    """
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )

    gemmas = get_checkpoint_conversion_mapping("gemma3") or []
    others = [entry for entry in gemmas if entry.source_patterns != [f"^{_TOWER}"]]
    renamings = [*others, _renaming(_TOWER, *WORLD_MODULES)]
    register_checkpoint_conversion_mapping(model_type, renamings, overwrite=True)
    of_inner = get_checkpoint_conversion_mapping("Gemma3Model") or []
    register_checkpoint_conversion_mapping(inner_class, of_inner, overwrite=True)


def _renaming(*names: str) -> Any:
    from transformers.core_model_loading import WeightRenaming

    return WeightRenaming(source_patterns=rf"^({'|'.join(names)})", target_patterns=rf"{INNER}\1")
