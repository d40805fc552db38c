"""What both sides of a comparison are asked: the probes of the checkpoint's family, or a user's own.

In: what loads a side. Out: `Questions`, the same in every process: they come from the checkpoint and a seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from theworld_validate.parity.loader import Loader
from theworld_validate.probes.probe import Probe, choose_probes
from theworld_validate.results import InputError
from theworld_validate.subjects.targets import resolve_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked.

    Args:
        probes: the chosen ones.
        unasked: what of the model no probe reaches, and why; empty where probes were chosen by name.
        base_target: the class that others will load a saved model with.
    """

    probes: tuple[Probe, ...]
    unasked: tuple[str, ...]
    base_target: str


def questions_of(loader: Loader, probe_names: Sequence[str]) -> Questions:
    """Build what a checkpoint is asked.

    Raises:
        InputError: if the checkpoint cannot be used, or no probe has such a name.
    """
    from theworld_validate.probes.family import Asked
    from theworld_validate.probes.registry import family_of
    from theworld_validate.subjects.architectures import architecture_of

    found = architecture_of(loader.checkpoint)
    if loader.probes is not None:
        asked = Asked(probes=_own_probes(loader.probes, found.config, seed=loader.seed))
    else:
        asked = family_of(found.config.model_type)(found.config, found.model_class, seed=loader.seed).build()
    return Questions(
        probes=choose_probes(asked.probes, probe_names),
        unasked=() if probe_names else asked.unasked,
        base_target=found.base_target,
    )


def _own_probes(named: str, config: Any, *, seed: int) -> tuple[Probe, ...]:
    """Call a user's function of (config, seed).

    Raises:
        InputError: if there is none, it raises, or it does not give probes.
    """
    from theworld.checkpoints.error_text import summary

    make = resolve_target(named)
    try:
        probes = tuple(make(config, seed=seed))
    except Exception as error:  # a user's function raises anything
        raise InputError(f"--probes {named} raises {type(error).__name__}: {summary(error)}") from error
    if not probes or not all(isinstance(probe, Probe) for probe in probes):
        raise InputError(f"--probes {named} gives no list of theworld_validate.Probe; see docs/families.md")
    if len({probe.name for probe in probes}) < len(probes):
        raise InputError(f"--probes {named} gives two probes of one name; name each differently")
    return probes
