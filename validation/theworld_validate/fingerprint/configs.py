"""The section "config": what a model's configurations say, and where a module has one of its own that says otherwise.

In: a loaded model. Out: a value for each field of config and generation config, at its dotted path. Modules hold the
same objects as the model's config, or its parts; one that holds another object does not hear of a change of the
model's, and its fields that say otherwise are at "MODULE.config.FIELD".
"""

from collections.abc import Iterator
from typing import Any

from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.scalars import clean_text, to_scalar
from theworld_validate.fingerprint.tree import iterate_modules
from theworld_validate.subjects.wrappers import Wrapped

# Who the model says it is: a subclass's own config differs from its base's in these, and in these alone.
IDENTITY_FIELDS = ("architectures", "model_type", "_name_or_path", "transformers_version", "auto_map")
# What a base class reads from a checkpoint of TheWorld's, has no field for, and keeps without a use.
_BRANCH_FIELDS = ("world_config", "trainable_components")
_PLACE_FIELDS = ("_name_or_path", "name_or_path")  # where it was loaded from, in a sub-config too


def observe_config(wrapped: Wrapped) -> Section:
    """Observe the values of the model's configuration, its generation configuration, and others in its modules."""
    section: Section = {}
    for name in ("config", "generation_config"):
        if getattr(wrapped.model, name, None) is not None:
            _flatten(name, _fields_of(getattr(wrapped.model, name)), section)
    for name, module, known in _configs_apart(wrapped.model):
        model_says: Section = {}
        module_says: Section = {}
        _flatten(name, {} if known is None else _fields_of(known), model_says)
        _flatten(name, _fields_of(module), module_says)
        for field in {**model_says, **module_says}:
            if model_says.get(field) != module_says.get(field):
                section[field] = module_says.get(field, {"value": "(not there)"})
    return section


def _fields_of(config: Any) -> dict[str, Any]:
    unused = {field for field in _BRANCH_FIELDS if not hasattr(type(config), field)}
    left_out = unused.union(IDENTITY_FIELDS)
    return {key: value for key, value in config.to_dict().items() if key not in left_out}


def _flatten(prefix: str, value: Any, section: Section) -> None:
    if isinstance(value, dict) and value:
        for key in sorted(value, key=str):
            if key not in _PLACE_FIELDS:
                _flatten(f"{prefix}.{clean_text(str(key))}", value[key], section)
    else:
        section[prefix] = {"value": to_scalar(value)}


def _configs_apart(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Configs of modules that are none of the model's: (path, the module's, the model's of that kind), each once."""
    own = list(_parts_of(getattr(model, "config", None)))
    seen = {id(config) for config in own}
    for path, module in iterate_modules(model):
        config = vars(module).get("config")
        if _is_config(config) and id(config) not in seen:
            seen.add(id(config))
            related = (part for part in own if isinstance(config, type(part)) or isinstance(part, type(config)))
            yield f"{clean_text(path)}.config", config, next(related, None)


def _parts_of(config: Any) -> Iterator[Any]:
    """A config and those inside it."""
    if _is_config(config):
        yield config
        for value in list(vars(config).values()):
            yield from _parts_of(value)


def _is_config(value: Any) -> bool:
    return hasattr(type(value), "model_type") and hasattr(type(value), "to_dict")
