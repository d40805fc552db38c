"""Places of any model: a weight and a module in its middle, and its first norm.

In: names, as the sections "parameters" and "modules" have them. Out: one of them; the same name is picked where a fault
is injected into a model and where it is judged by what was observed of the reference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from theworld_validate.documents.observations import Section

_NORMS = ("norm", "ln_", "layernorm", "layer_norm")


def middle(names: Sequence[str]) -> str:
    """The one in the middle."""
    return names[len(names) // 2]


def matrices(parameters: Section) -> list[str]:
    """The names of matrices."""
    return [name for name, seen in parameters.items() if str(seen.get("shape")).count(",") == 1]


def middle_weight(parameters: Section) -> str:
    """A matrix in the middle of the model."""
    return middle(matrices(parameters))


def middle_module(modules: Section) -> str:
    """A module in the middle of the model."""
    return middle([name for name in modules if not name.startswith("(")])


def first_norm(parameters: Mapping[str, Any]) -> str:
    """The first parameter of a norm; nothing where there is none."""
    return next((name for name in parameters if any(word in name.lower() for word in _NORMS)), "")


def weight_in(model: Any) -> Any:
    """The parameter that `middle_weight` names."""
    return model.get_parameter(middle([name for name, p in model.named_parameters() if p.ndim == 2]))


def module_in(model: Any) -> Any:
    """The module that `middle_module` names."""
    return model.get_submodule(middle([name for name, _ in model.named_modules() if name]))


def norm_in(model: Any) -> Any:
    """The parameter that `first_norm` names."""
    return model.get_parameter(first_norm(dict(model.named_parameters())))
