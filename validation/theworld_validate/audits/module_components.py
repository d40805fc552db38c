"""A model's parameters by component: TheWorld's own list, a user's, or the parts of the module tree.

In: a model, and a file where the user gave one. Out: component -> name -> parameter; every parameter in exactly one,
tied weights once, under their first name.
"""

import fnmatch
import json
from pathlib import Path
from typing import Any

from theworld_validate.compare.places import component_of_parameter
from theworld_validate.results import InputError

_MAX_BYTES = 1 << 20
Components = dict[str, dict[str, Any]]


def read_components(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a user's list of components: a JSON object, component -> patterns of parameter names, such as "lm_head.*".

    Raises:
        InputError: if it is none.
    """
    from theworld_validate.documents.reading import read_json_object

    values = read_json_object(path, max_bytes=_MAX_BYTES)
    for name, patterns in values.items():
        is_list = isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns)
        if not is_list or not patterns:
            shown = json.dumps(patterns)[:60]
            raise InputError(f"{path}: {name} is {shown}; give a list of patterns of parameter names")
    if not values:
        raise InputError(f"{path}: no component; give an object of component: [pattern, ...]")
    return {name: tuple(patterns) for name, patterns in values.items()}


def components_of(model: Any, chosen: dict[str, tuple[str, ...]] | None = None) -> Components:
    """Sort a model's parameters into components.

    Args:
        model: of any family.
        chosen: a user's list; None for the model's own parts: the first two names of a path, less numbers.

    Raises:
        InputError: if the list leaves a parameter out, puts it into two components, or names one without parameters.
    """
    found: Components = {name: {} for name in chosen or ()}
    for name, parameter in model.named_parameters():
        if chosen is None:
            found.setdefault(component_of_parameter(name), {})[name] = parameter
            continue
        owners = [owner for owner, patterns in chosen.items() if any(fnmatch.fnmatch(name, p) for p in patterns)]
        if len(owners) != 1:
            which = f"in {', '.join(owners)}" if owners else "in none"
            raise InputError(f"--components: parameter {name} is {which}; it must be in exactly one component")
        found[owners[0]][name] = parameter
    if empty := [name for name, parameters in found.items() if not parameters]:
        raise InputError(f"--components: {empty[0]} has no parameter of this model; correct its patterns")
    return found
