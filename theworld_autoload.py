"""Lets transformers find TheWorld's classes in a process that does not import `theworld`.

In: nothing. Python runs this file when it starts, by a line in theworld_autoload.pth beside it. Out: transformers'
table of model types knows the word "theworld" once it has loaded, and imports `theworld` when the word is asked for.
Nothing is imported before that, and a process without transformers never sees more than this file.
"""

import sys

_TABLE = "transformers.models.auto.configuration_auto"
_MODEL_TYPE = "theworld"


class _LazyEntry(dict):
    """transformers' own table of further model types, with one entry that is looked up when it is needed."""

    def __contains__(self, key):
        return key == _MODEL_TYPE or super().__contains__(key)

    def __getitem__(self, key):
        if key == _MODEL_TYPE and not super().__contains__(key):
            from theworld.configuration_theworld import TheWorldConfig

            self[key] = TheWorldConfig
        return super().__getitem__(key)

    def get(self, key, default=None):
        try:
            return self[key]
        except KeyError:
            return default


class _Finder:
    """Steps in once, where transformers' table is imported; every other import passes by."""

    def find_spec(self, fullname, path, target=None):
        if fullname != _TABLE:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                _watch(spec.loader)
                return spec
        return None


def _watch(loader):
    def exec_module(module):
        del loader.exec_module
        loader.exec_module(module)
        mapping = getattr(module, "CONFIG_MAPPING", None)
        if isinstance(getattr(mapping, "_extra_content", None), dict):
            mapping._extra_content = _LazyEntry(mapping._extra_content)

    loader.exec_module = exec_module


sys.meta_path.insert(0, _Finder())
