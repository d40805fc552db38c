"""Which family a model type is of.

In: a model type. Out: the family that a file of `probes.families` registered for it, or the general one.
"""

import importlib
import pkgutil

from theworld_validate.probes import families
from theworld_validate.probes.family import REGISTERED, Family
from theworld_validate.probes.general import General


def family_of(model_type: str) -> type[Family]:
    """The family of a model type; the general one where none has registered it."""
    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")
    return REGISTERED.get(model_type, General)
