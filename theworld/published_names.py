"""The names of the world branch's tensors: in files, and in a model.

In: a name, or a state dict. Out: the other. Files are named as they were published, "world_projection.linear.weight"
beside Gemma's "language_model.model...."; in the model the branch lies in the inner model,
"model.world_projection.linear.weight".
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORLD_MODULES = ("world_encoder", "world_projection", "temporal_embedding")
WORLD_PREFIXES = tuple(f"{name}." for name in WORLD_MODULES)
_TOWER = "vision_tower"
INNER = "model."  # where a model with a head keeps the model inside
EITHER_WAY = (*WORLD_PREFIXES, *(f"{INNER}{prefix}" for prefix in WORLD_PREFIXES))


def published_name(name: str) -> str:
    """The name in files of a parameter; Gemma's own keep theirs, which transformers maps."""
    inner = name.removeprefix(INNER)
    return inner if inner.startswith(WORLD_PREFIXES) else name


def with_parameter_names(model: "PreTrainedModel", state_dict: Any) -> Any:
    """A state dict under the model's own names: names as in files are renamed as `from_pretrained` renames them.

    Names of neither kind stay as they are. Files hold a tied weight once: under the model's names it is there twice.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import rename_source_key

    if set(state_dict) <= _stored_names(model):
        return state_dict
    own = model.state_dict()  # gathers, copies or unpacks tensors in some libraries, so only where it is needed
    if all(name in own for name in state_dict):
        return state_dict
    renamings: Any = get_model_conversion_mapping(model, add_legacy=False)
    renamed: Any = OrderedDict()
    for name, tensor in state_dict.items():
        target = name
        if name not in own:
            target, _ = rename_source_key(name, renamings, [], model.base_model_prefix, own)
        # The model's own spelling goes first, and the other of two is one too many.
        renamed[target if target in own and (target == name or target not in state_dict) else name] = tensor
    for tied, source in (model.all_tied_weights_keys or {}).items():
        if source in renamed and source not in state_dict:
            renamed.setdefault(tied, renamed[source])
    if hasattr(state_dict, "_metadata"):  # torch's, of its modules' versions
        renamed._metadata = state_dict._metadata
    return renamed


def _stored_names(model: "PreTrainedModel") -> set[str]:
    """Names of parameters, tied ones under each name, and of the buffers that torch stores."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for prefix, module in model.named_modules(remove_duplicate=False):
        stored = module._buffers.keys() - module._non_persistent_buffers_set
        names.update(f"{prefix}.{name}" if prefix else name for name in stored)
    return names


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
