"""A plain subclass of any class of transformers, by its name: what somebody writes who only adds a method.

In: an attribute's name, such as "PlainLlamaForCausalLM". Out: the class. Nothing of its base is changed.
"""

from typing import Any

PREFIX = "Plain"


def __getattr__(name: str) -> Any:
    import transformers

    base = getattr(transformers, name.removeprefix(PREFIX), None) if name.startswith(PREFIX) else None
    if not isinstance(base, type):
        raise AttributeError(name)
    return type(name, (base,), {"__module__": __name__, "shout": lambda self: type(self).__name__.upper()})
