"""A family: what a model of a kind is asked. The general one needs the config and the signature of `forward`.

In: a config, and the class that it is of. Out: `Asked`: probes, and what no probe could be built for. A family with
special inputs is one file in `probes.families`: a subclass of `general.General` that names its model types;
`registry.family_of` finds it there.
"""

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from theworld_validate.probes.probe import Inputs, Probe

REGISTERED: dict[str, "type[Family]"] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a model is asked.

    Args:
        probes: in the order in which they are asked.
        unasked: what of the model no probe reaches, and why, a line each.
    """

    probes: tuple[Probe, ...]
    unasked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image in a prompt.

    Args:
        ids: the placeholders that stand for it, with what must be around them.
        inputs: its own arguments of the forward; those of several images are joined along the first axis.
        image_token: the id, of those in `ids`, that is a placeholder; None where images stand beside the text.
    """

    ids: tuple[int, ...] = ()
    inputs: Inputs
    image_token: int | None = None


class Family:
    """What models of some types are asked; subclasses register themselves under `model_types`.

    Args:
        config: of the checkpoint.
        model_class: the class that the config's `architectures` names.
        seed: of everything that is drawn.
    """

    model_types: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for model_type in cls.model_types:
            REGISTERED[model_type] = cls

    def __init__(self, config: Any, model_class: Any, *, seed: int = 0) -> None:
        self.config, self.model_class, self.seed = config, model_class, seed
        self.random = np.random.Generator(np.random.PCG64(seed))
        forward = inspect.signature(model_class.forward).parameters
        self.takes = frozenset(name for name in forward if name != "self")
        self.needs = frozenset(name for name in self.takes if forward[name].default is inspect.Parameter.empty)

    def build(self) -> Asked:
        """Build every probe.

        Raises:
            InputError: with the field that no probe can be built from.
        """
        raise NotImplementedError
