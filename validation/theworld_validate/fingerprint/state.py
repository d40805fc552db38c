"""What a model is, before it is asked anything: config, modules, parameters, buffers, globals.

In: a loaded model. Out: five sections of a fingerprint, each observed by itself: one that raises is a `Failure`, and
the others stand. Nothing is run and nothing is changed.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import STATE_SECTIONS, Failure, Fingerprint, Observation, Section
from theworld_validate.fingerprint.configs import IDENTITY_FIELDS, observe_config
from theworld_validate.fingerprint.digest import DigestQueue, describe_shape
from theworld_validate.fingerprint.failures import failure_of
from theworld_validate.fingerprint.global_state import observe_globals
from theworld_validate.fingerprint.modules import callable_override, observe_modules
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.tensor_parts import (
    NoBits,
    find_offloaded,
    is_plain,
    name_of_subclass,
    read_offloaded,
)
from theworld_validate.fingerprint.tree import iterate_buffers, iterate_parameters
from theworld_validate.subjects.wrappers import Wrapped, own_name, unwrap

if TYPE_CHECKING:
    import torch

__all__ = [
    "IDENTITY_FIELDS",
    "callable_override",
    "fingerprint_buffers",
    "fingerprint_changes",
    "fingerprint_state",
    "observe_buffers",
    "observe_globals",
    "observe_parameters",
]

_KEPT_BY_RUNNING = ("modules", "parameters", "buffers")  # what no forward, generate or backward pass may change
# Where a parameter or buffer lies that accelerate took off its module: see `find_offloaded`.
_Offloaded = Mapping[str, tuple[str, Any, str]]


def fingerprint_state(model: Any, sections: Iterable[str] = STATE_SECTIONS) -> Fingerprint:
    """Observe config, modules, parameters, buffers and globals.

    Args:
        model: what a loader returned, or its `Wrapped`.
        sections: those of the five that are wanted.
    """
    wrapped = unwrap(model)
    found: dict[str, Section] = {}
    failures: list[Failure] = []
    for name, observe in _OBSERVERS.items():
        if name in sections:
            try:
                found[name] = observe(wrapped)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                failures.append(failure_of(error, name))
    tensors: dict[str, list[torch.Tensor]] = {
        "parameters": [parameter for _, parameter in iterate_parameters(wrapped.model)],
        "buffers": [buffer for _, buffer, _ in iterate_buffers(wrapped.model)],
    }
    num_bytes = {name: _total_bytes(tensors[name]) for name in tensors if name in found}
    return Fingerprint(sections=found, num_bytes=num_bytes, failures=tuple(failures))


def fingerprint_changes(model: Any, before: Fingerprint) -> Fingerprint:
    """Observe again what was observed before the model was run, and keep what is not as it was.

    Returns:
        The earlier observations of what changed, each with `after_run`, which says how; nothing of the rest.
    """
    after = fingerprint_state(model, [name for name in _KEPT_BY_RUNNING if name in before.sections])
    changed: dict[str, Section] = {name: {} for name in after.sections}
    for name, now in after.sections.items():
        was = before.sections[name]
        for location in {**was, **now}:
            # accelerate takes offloaded tensors off and puts new ones in, which are tied to nothing.
            is_offloaded = any("meta" in str(side.get(location, {}).get("device")) for side in (was, now))
            sides = [_less_gradient(side.get(location, {})) for side in (was, now)]
            if sides[0] != sides[1] and not is_offloaded:
                seen = was.get(location) or now[location]
                how = _how_it_changed(*sides)
                changed[name][location] = {**seen, "after_run": clean_text(how)}
    return Fingerprint(sections=changed, failures=after.failures)


def _less_gradient(seen: Observation) -> Observation:
    """Less the gradient that a loader left: taking the gradients clears it."""
    return {field: value for field, value in seen.items() if field != "grad"}


def _how_it_changed(was: Observation, now: Observation) -> str:
    if not was or not now:
        return "it is new" if now else "it is gone"
    return ", ".join(f"{field} is {now.get(field)}" for field in {**was, **now} if was.get(field) != now.get(field))


def fingerprint_buffers(model: Any) -> Section:
    """Observe the buffers alone."""
    return observe_buffers(unwrap(model))


def _total_bytes(tensors: "Iterable[torch.Tensor]") -> int:
    unique = {id(tensor): tensor for tensor in tensors if not _is_lazy(tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in unique.values())


def _is_lazy(tensor: "torch.Tensor") -> bool:
    from torch.nn.parameter import is_lazy

    return is_lazy(tensor)


def _observe_tensor(name: str, tensor: "torch.Tensor", queue: DigestQueue, offloaded: _Offloaded) -> Observation:
    seen: Observation = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": None if _is_lazy(tensor) else str(list(tensor.shape)),
        "device": str(tensor.device),
    }
    if _is_lazy(tensor):
        return {**seen, "unreadable": "it has no shape and no bits before the first call"}
    if (subclass := name_of_subclass(tensor)) is not None:
        seen["subclass"] = subclass
    try:
        if name in offloaded:
            seen["device"] = f"meta, offloaded to {offloaded[name][0]}"
        queue.add(read_offloaded(offloaded[name]) if name in offloaded else tensor, seen)
    except NoBits as error:
        seen["unreadable"] = clean_text(str(error))
    return seen


def observe_parameters(wrapped: Wrapped) -> Section:
    """Observe parameters; of tied ones the later names say which they are tied to, and have no digest."""
    queue = DigestQueue(max_held_bytes=None)
    section: Section = {}
    first_name_of: dict[int, str] = {}
    first_name_at: dict[tuple[str, int], str] = {}
    rename, offloaded = own_name(wrapped.model), find_offloaded(wrapped.model)
    for name, parameter in iterate_parameters(wrapped.model):
        location = clean_text(rename(name))
        tied_to = first_name_of.setdefault(id(parameter), location)
        if tied_to != location:
            section[location] = {"tied_to": tied_to}
        else:
            section[location] = _observe_tensor(name, parameter, queue, offloaded)
            hooks = len(parameter._backward_hooks or ()) + len(
                getattr(parameter, "_post_accumulate_grad_hooks", None) or ()
            )
            section[location].update(requires_grad=parameter.requires_grad, tied_to=None, hooks=hooks)
            section[location].update(_memory_of(location, parameter, first_name_at))
            if parameter.grad is not None:  # a fresh model has none
                section[location]["grad"] = describe_shape(parameter.grad)
    queue.finish()
    return section


def _memory_of(location: str, parameter: "torch.Tensor", first_name_at: dict[tuple[str, int], str]) -> Observation:
    """What is not as it usually is: a parameter that is not contiguous, or begins where another one does."""
    if _is_lazy(parameter) or parameter.is_meta or not is_plain(parameter) or not parameter.nbytes:
        return {}
    seen: Observation = {} if parameter.is_contiguous() else {"stride": str(list(parameter.stride()))}
    other = first_name_at.setdefault((str(parameter.device), parameter.data_ptr()), location)
    return seen if other == location else {**seen, "same_memory_as": other}


def observe_buffers(wrapped: Wrapped) -> Section:
    """Observe buffers, and whether each is saved."""
    queue = DigestQueue(max_held_bytes=None)
    section: Section = {}
    rename, offloaded = own_name(wrapped.model), find_offloaded(wrapped.model)
    for name, buffer, is_saved in iterate_buffers(wrapped.model):
        seen = _observe_tensor(name, buffer, queue, offloaded)
        seen["persistent"] = is_saved
        section[clean_text(rename(name))] = seen
    queue.finish()
    return section


_OBSERVERS: dict[str, Callable[[Wrapped], Section]] = {
    "config": observe_config,
    "modules": observe_modules,
    "parameters": observe_parameters,
    "buffers": observe_buffers,
    "globals": lambda _wrapped: observe_globals(),
}
