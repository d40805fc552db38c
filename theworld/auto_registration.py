"""Registers TheWorld with transformers' Auto classes, without importing transformers.

In: nothing. Out: `AutoConfig`, `AutoModelForImageTextToText` and `AutoProcessor` know the model type
"theworld", in whichever order the user imports the two packages. transformers' auto modules
import torch (seconds), so each registration waits until the module that it needs has loaded.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def _class_of_theworld(module: str, name: str) -> Any:
    # By name: this module is at the bottom of the package, and these are above it.
    return getattr(import_module(f"theworld.{module}"), name)


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

    config_class = _class_of_theworld("configuration_theworld", "TheWorldConfig")
    if config_class.model_type not in CONFIG_MAPPING:
        AutoConfig.register(config_class.model_type, config_class)


def _register_model() -> None:
    from transformers.models.auto.modeling_auto import AutoModelForImageTextToText

    AutoModelForImageTextToText.register(
        _class_of_theworld("configuration_theworld", "TheWorldConfig"),
        _class_of_theworld("modeling_theworld", "TheWorld"),
        exist_ok=True,
    )


def _register_processor() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    AutoProcessor.register(
        _class_of_theworld("configuration_theworld", "TheWorldConfig"),
        _class_of_theworld("processing_theworld", "TheWorldProcessor"),
        exist_ok=True,
    )


_REGISTRATIONS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.processing_auto": _register_processor,
}
# What a registration imports, and what may itself be half imported when an auto module has loaded.
_WATCHED = (
    *_REGISTRATIONS,
    "transformers.models.gemma3.configuration_gemma3",
    "transformers.models.gemma3.modeling_gemma3",
    "transformers.models.gemma3.processing_gemma3",
    "transformers.models.siglip.configuration_siglip",
    "theworld.configuration_theworld",
    "theworld.loading",
    "theworld.modeling_theworld",
    "theworld.processing_theworld",
)


class _Registrar:
    """Keeps the registrations that wait, and runs those that can run each time a watched module has loaded."""

    def __init__(self) -> None:
        self._waiting = dict(_REGISTRATIONS)
        self._loading: set[str] = set()

    @property
    def is_done(self) -> bool:
        return not self._waiting

    def begins(self, module_name: str) -> None:
        self._loading.add(module_name)

    def ends(self, module_name: str) -> None:
        self._loading.discard(module_name)
        self.run()

    def run(self) -> None:
        """Register with every auto module that has loaded, unless a module in the way is half imported."""
        for auto_module in [name for name in self._waiting if name in sys.modules]:
            if not self._loading and (register := self._waiting.pop(auto_module, None)):
                register()


class _WatchingLoader(Loader):
    """Runs a module as its own loader would, and tells the registrar."""

    def __init__(self, loader: Loader, module_name: str, registrar: _Registrar) -> None:
        self._loader = loader
        self._module_name = module_name
        self._registrar = registrar

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._registrar.begins(self._module_name)
        try:
            self._loader.exec_module(module)
        except BaseException:
            self._registrar.ends(self._module_name)
            raise
        self._registrar.ends(self._module_name)


class _WatchingFinder(MetaPathFinder):
    """Steps in once for each watched module, until all is registered; every other import passes by."""

    def __init__(self, registrar: _Registrar) -> None:
        self._registrar = registrar
        self._unseen = {name for name in _WATCHED if name not in sys.modules}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname not in self._unseen or self._registrar.is_done:
            return None
        self._unseen.discard(fullname)  # before find_spec, which would come back here
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchingLoader(spec.loader, fullname, self._registrar)
        return spec


def register_when_transformers_loads() -> None:
    """Register now with what transformers has loaded already, and with the rest when it loads."""
    registrar = _Registrar()
    sys.meta_path.insert(0, _WatchingFinder(registrar))
    registrar.run()
