"""What a fault is, and the catalogue that its decorator fills.

In: a function that spoils a loaded model (or loads a spoilt one). Out: a `Fault`, with where it was seen and what
must be said of it. Checks never read this.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from theworld_validate.compare.causes import Cause
from theworld_validate.subjects.subject import device_map_of

CATALOGUE: dict[str, "Fault"] = {}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Args:
        name: unique, in words joined by hyphens.
        group: load, attention, numerics, runtime, generation, gradients or round trip.
        seen: where it was reported.
        layer: the fingerprint layer that must catch it.
        location: a regular expression that the likeliest finding's location must match.
        causes: the kinds of cause that are right.
        inject: spoils a loaded model, in place.
        load: loads a spoilt model in place of the subject's own way; it is given the subject.
        around: entered before loading and left after running.
        needs_cuda: whether it cannot exist without a GPU.
    """

    name: str
    group: str
    seen: str
    layer: str
    location: str
    causes: tuple[Cause, ...]
    inject: Callable[[Any], object] = lambda model: None
    load: Callable[[Any], Any] | None = None
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    needs_cuda: bool = False

    def load_spoilt(self, subject: Any) -> Any:
        """Load the subject with this fault in it; `around` is the caller's to enter."""
        model = self.load(subject) if self.load is not None else subject.load()
        self.inject(model)
        return model


def fault(
    group: str,
    seen: str,
    layer: str,
    location: str,
    *causes: Cause,
    how: str = "inject",
    needs_cuda: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put the decorated function into the catalogue, under its own name, as a fault's `inject`, `load` or `around`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__.replace("_", "-")
        if name in CATALOGUE:
            raise AssertionError(f"two faults are named {name}")
        entry: dict[str, Any] = {how: function}
        CATALOGUE[name] = Fault(
            name=name,
            group=group,
            seen=seen,
            layer=layer,
            location=location,
            causes=causes,
            needs_cuda=needs_cuda,
            **entry,
        )
        return function

    return register


def text_model(model: Any) -> Any:
    """The language model inside."""
    return model.model.language_model


def load_with(subject: Any, **arguments: Any) -> Any:
    """Load the subject's checkpoint as TheWorld with the branch off, with other arguments beside the subject's."""
    import torch

    from theworld import TheWorld

    own: dict[str, Any] = {"dtype": getattr(torch, subject.dtype), "enable_world": False}
    own |= device_map_of(subject.device)
    torch.manual_seed(subject.seed)
    return TheWorld.from_pretrained(subject.checkpoint, **{**own, **arguments})


def wrap_forward(module: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the keyword arguments of a module's forward, as a wrapper class would: by its type, not the instance."""
    original = type(module)

    class Wrapped(original):
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            change(kwargs)
            return super().forward(*inputs, **kwargs)

    Wrapped.__module__, Wrapped.__qualname__ = original.__module__, original.__qualname__
    Wrapped.__name__ = original.__name__
    module.__class__ = Wrapped
