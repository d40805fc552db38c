"""What a fault is, and the catalogue that its decorator fills.

In: a function that spoils a loaded model, loads a spoilt one, or damages a copy of its checkpoint. Out: a `Fault`,
with where it was seen and what must be said of it. Checks never read this.
"""

import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from theworld_validate.compare.causes import Cause
from theworld_validate.documents.observations import Section
from theworld_validate.faults.needs import Need
from theworld_validate.subjects.subject import device_map_of

CATALOGUE: dict[str, "Fault"] = {}
FAMILY_FAULTS: dict[str, "Fault"] = {}  # those that are made for any family, beside the catalogue's that suit it


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Args:
        name: unique, in words joined by hyphens.
        group: files, load, attention, numerics, runtime, generation, gradients, round trip or training.
        seen: where it was reported.
        section: the section of a fingerprint, or for training the aspect of its audit, that must catch it.
        location: a regular expression that the likeliest root's location must match.
        causes: the kinds of cause that are right.
        inject: spoils a loaded model, in place.
        load: loads a spoilt model in place of the subject's own way; it is given the subject.
        around: entered before loading and left after running.
        folder: damages a copy of the checkpoint's folder, which both sides then load.
        needs_cuda: whether it cannot exist without a GPU.
        needs: what a model of another family must have for it.
        place: gives the location for what was observed of the reference, where it is not the same for every model.
    """

    name: str
    group: str
    seen: str
    section: str
    location: str
    causes: tuple[Cause, ...]
    inject: Callable[[Any], object] = lambda model: None
    load: Callable[[Any], Any] | None = None
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    folder: Callable[[Path], object] | None = None
    needs_cuda: bool = False
    needs: tuple[Need, ...] = (Need.GEMMA3,)
    place: Callable[[Mapping[str, Section]], str] | None = None

    def placed_in(self, sections: Mapping[str, Section]) -> "Fault":
        """The same fault with its location in a model of which this was observed."""
        return self if self.place is None else replace(self, location=self.place(sections))

    def load_spoilt(self, subject: Any) -> Any:
        """Load the subject with this fault in it; `around` is the caller's to enter."""
        model = self.load(subject) if self.load is not None else subject.load()
        self.inject(model)
        return model

    def damage_copy(self, checkpoint: str, target: Path) -> Path:
        """Copy a checkpoint's folder to `target`, damage the copy, and return it; for faults of files."""
        assert self.folder is not None
        shutil.copytree(checkpoint, target)
        self.folder(target)
        return target


def fault(
    group: str,
    seen: str,
    section: str,
    location: str,
    *causes: Cause,
    how: Literal["inject", "load", "around", "folder"] = "inject",
    needs_cuda: bool = False,
    needs: tuple[Need, ...] = (Need.GEMMA3,),
    place: Callable[[Mapping[str, Section]], str] | None = None,
    catalogue: dict[str, Fault] = CATALOGUE,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put the decorated function into the catalogue, under its own name, as what `how` names of a fault."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__.replace("_", "-")
        if name in CATALOGUE or name in FAMILY_FAULTS:
            raise AssertionError(f"two faults are named {name}")
        entry: dict[str, Any] = {how: function}
        catalogue[name] = Fault(
            name=name,
            group=group,
            seen=seen,
            section=section,
            location=location,
            causes=causes,
            needs_cuda=needs_cuda,
            needs=needs,
            place=place,
            **entry,
        )
        return function

    return register


def text_model(model: Any) -> Any:
    """The language model inside."""
    return model.model.language_model


def load_with(subject: Any, **arguments: Any) -> Any:
    """Load the subject's checkpoint with other arguments beside the subject's: as TheWorld with the branch off, or as
    the class of another family.
    """
    import torch

    from theworld import TheWorld
    from theworld_validate.subjects.architectures import architecture_of

    own: dict[str, Any] = {"dtype": getattr(torch, subject.dtype)}
    own |= device_map_of(subject.device)
    found = architecture_of(subject.checkpoint)
    if found.is_the_worlds:
        own["enable_world"] = False
    torch.manual_seed(subject.seed)
    model_class: Any = TheWorld if found.is_the_worlds else found.model_class
    return model_class.from_pretrained(subject.checkpoint, **{**own, **arguments})


def integers(tensor: Any) -> Any:
    """A tensor's bits, as integers that change it."""
    import torch

    return tensor.detach().view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


@contextmanager
def set_while(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Have an attribute be another until the block ends: a flag, a function, a method."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def become(module: Any, changed: type) -> None:
    """Put a subclass in the place of a module's class, under the name of that class: other code, and nothing else."""
    original = type(module)
    changed.__module__, changed.__qualname__, changed.__name__ = (
        original.__module__,
        original.__qualname__,
        original.__name__,
    )
    module.__class__ = changed


def wrap_forward(module: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the keyword arguments of a module's forward, as a wrapper class would: by its type, not the instance."""

    original = type(module)

    class Wrapped(original):
        @functools.wraps(original.forward)  # generate reads the signature
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            change(kwargs)
            return super().forward(*inputs, **kwargs)

    become(module, Wrapped)


def rewrite_output(module: Any, change: Callable[[Any], Any]) -> None:
    """Change what a module's forward returns, by its type."""

    original = type(module)

    class Rewriting(original):
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            return change(super().forward(*inputs, **kwargs))

    become(module, Rewriting)


def wrap_generate(model: Any, change: Callable[[Any, dict[str, Any]], AbstractContextManager[object]]) -> None:
    """Change the keyword arguments of `generate`, and what is in force while it runs."""

    original = type(model)

    class Generating(original):
        def generate(self, *inputs: Any, **kwargs: Any) -> Any:
            with change(self, kwargs):
                return super().generate(*inputs, **kwargs)

    become(model, Generating)


def rewrite_saving(model: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the state that `save_pretrained` writes."""

    original = type(model)

    class Saving(original):
        def save_pretrained(self, directory: Any, *args: Any, **kwargs: Any) -> None:
            super().save_pretrained(directory, *args, **{**kwargs, "state_dict": change(self.state_dict())})

    become(model, Saving)


def rewrite_files(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the tensors of every safetensors file in a folder; the index follows."""
    from safetensors.torch import load_file, save_file

    weight_map = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors = change(load_file(path))
        save_file(tensors, path, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, path.name))
    for path in folder.glob("*.safetensors.index.json"):
        index = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**index, "weight_map": weight_map}), encoding="utf-8")
