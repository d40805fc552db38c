"""Registers TheWorld with transformers' Auto classes, without importing transformers.

In: nothing. Out: the Auto classes know the model type "theworld", in whichever order the user imports transformers,
diffusers and this package. transformers' auto modules import torch (seconds), so each registration waits until the
module that it needs has loaded; and until no module of transformers or of this package is half imported, since the
registered classes need both.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_ROOTS = ("transformers", "theworld")
# Wherever an Auto class gives one of Gemma 3's, it gives ours; Gemma 3's classifier has no counterpart.
_OURS = {
    "Gemma3ForConditionalGeneration": ("modeling_theworld", "TheWorld"),
    "Gemma3Model": ("world_model", "TheWorldModel"),
}


def _class_of_theworld(module: str, name: str) -> Any:
    # By name: this module is at the bottom of the package, and these are above it.
    return getattr(import_module(f"theworld.{module}"), name)


def _config_class() -> Any:
    return _class_of_theworld("configuration_theworld", "TheWorldConfig")


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    AutoConfig.register(_config_class().model_type, _config_class(), exist_ok=True)


def _register_model() -> None:
    from transformers import Gemma3Config

    auto_module = import_module("transformers.models.auto.modeling_auto")
    for auto in list(vars(auto_module).values()):  # another thread may import from it
        mapping = getattr(auto, "_model_mapping", None) if isinstance(auto, type) else None
        if mapping is None or Gemma3Config not in mapping:
            continue
        ours = _OURS.get(mapping[Gemma3Config].__name__)
        if ours is not None:
            auto.register(_config_class(), _class_of_theworld(*ours), exist_ok=True)


def _register_processor() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    processor_class = _class_of_theworld("processing_theworld", "TheWorldProcessor")
    AutoProcessor.register(_config_class(), processor_class, exist_ok=True)


_REGISTRATIONS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.processing_auto": _register_processor,
}


class _Registrar(MetaPathFinder):
    """Sees modules of transformers and of this package load, and registers when the outermost has loaded."""

    def __init__(self) -> None:
        self._waiting = dict(_REGISTRATIONS)
        self._depth = 0  # imports that have begun and not ended

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as the other finders would, and be told when it has loaded."""
        if fullname.partition(".")[0] not in _ROOTS:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                self._watch(spec.loader)
                return spec
        return None

    def _watch(self, loader: Any) -> None:
        """Count a load in and out, by an attribute of this loader's instance that goes when it is called."""
        if not hasattr(loader, "exec_module") or not hasattr(loader, "__dict__"):
            return

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            self._depth += 1
            try:
                loader.exec_module(module)
            finally:
                self._depth -= 1
            self.register(just_loaded=module.__name__)

        loader.exec_module = exec_module

    def register(self, *, just_loaded: str = "") -> None:
        """Register with every auto module that has loaded, unless something is half imported.

        Args:
            just_loaded: a module that is done, though Python still says that it is not.
        """
        if self._depth or _is_half_imported(apart_from=just_loaded):
            return
        for auto_module in [name for name in self._waiting if name in sys.modules]:
            if register := self._waiting.pop(auto_module, None):
                register()
        if not self._waiting and self in sys.meta_path:
            sys.meta_path.remove(self)


def _is_half_imported(*, apart_from: str) -> bool:
    """Whether an import of transformers' began before this module could see it, and has not ended."""
    return any(
        getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
        if name.startswith("transformers.") and name != apart_from
    )


def register_when_transformers_loads() -> None:
    """Register now with what transformers has loaded already, and with the rest when it loads."""
    registrar = _Registrar()
    sys.meta_path.insert(0, registrar)
    registrar.register()
