"""Gemma 3 with an optional Cosmos world branch, as an ordinary Hugging Face model.

Importing this package loads neither torch nor transformers nor diffusers: the public names
below load on first use, and the Auto classes learn about them when transformers is imported
(not where the environment variable THEWORLD_AUTO_CLASSES is 0).
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from theworld.auto_registration import register_when_transformers_loads

if TYPE_CHECKING:
    from theworld.configuration_theworld import TheWorldConfig, WorldConfig
    from theworld.freezing import FreezeConfig
    from theworld.modeling_theworld import TheWorld
    from theworld.processing_theworld import TheWorldProcessor
    from theworld.rollout_config import RolloutConfig

__version__ = "0.1.0"
__all__ = [
    "FreezeConfig",
    "RolloutConfig",
    "TheWorld",
    "TheWorldConfig",
    "TheWorldProcessor",
    "WorldConfig",
    "__version__",
]

_HOME_OF = {
    "FreezeConfig": "theworld.freezing",
    "RolloutConfig": "theworld.rollout_config",
    "TheWorld": "theworld.modeling_theworld",
    "TheWorldConfig": "theworld.configuration_theworld",
    "TheWorldProcessor": "theworld.processing_theworld",
    "WorldConfig": "theworld.configuration_theworld",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'theworld' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if os.environ.get("THEWORLD_AUTO_CLASSES") != "0":  # a release of transformers that is merely observed may be too old
    register_when_transformers_loads()
