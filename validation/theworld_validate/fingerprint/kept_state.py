"""What a model keeps between calls beside its parameters and buffers: plain attributes of its modules.

In: a loaded model. Out: a function that puts every attribute back. Some families keep what the next call reads (the
Qwen-VL and GLM-V models their `rope_deltas`), so that a second run that goes on from the first one is another question:
a control starts as the first run did. Within a run nothing is put back: both sides are asked in the same order, and one
that keeps what the other does not answers otherwise.
"""

from collections.abc import Callable
from typing import Any

from theworld_validate.fingerprint.tree import iterate_modules

_TORCHS_OWN = ("_parameters", "_buffers", "_modules")


def remember_attributes(model: Any) -> Callable[[], None]:
    """Remember which object each plain attribute of each module is; return what puts them back.

    What is changed inside of an object, such as a list that grows, stays changed: a control then differs, and says so.
    """
    remembered = [(module, _attributes(module)) for _, module in iterate_modules(model)]

    def put_back() -> None:
        for module, before in remembered:
            attributes = vars(module)
            for name in [name for name in _attributes(module) if name not in before]:
                del attributes[name]
            attributes.update(before)

    return put_back


def _attributes(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _TORCHS_OWN}
