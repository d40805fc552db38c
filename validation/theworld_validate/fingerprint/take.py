"""A whole fingerprint of one loaded model.

In: a loaded model and probes. Out: all layers. The order matters: state first, before anything is run; the
round trip last, since it loads a second model.
"""

from collections.abc import Callable, Sequence
from typing import Any

from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint.behaviour import fingerprint_behaviour
from theworld_validate.fingerprint.gradients import fingerprint_gradients
from theworld_validate.fingerprint.round_trip import fingerprint_round_trip
from theworld_validate.fingerprint.state import fingerprint_state
from theworld_validate.probes.gemma3 import Probe, gradient_probe

Progress = Callable[[str], None]


def take_fingerprint(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    progress: Progress = lambda step: None,
) -> Fingerprint:
    """Observe everything about a loaded model.

    Args:
        model: in the mode that its loader left it in.
        probes: what to ask; one with an image also gives the gradients.
        seed: set before each probe, before sampling and before the gradients.
        deterministic: choose deterministic kernels on CUDA.
        progress: called with a line before each of `count_steps` steps.
    """
    progress("state")
    seen = fingerprint_state(model)
    seen = seen.merge(fingerprint_run(model, probes, seed=seed, deterministic=deterministic, progress=progress))
    progress("round trip")
    return seen.merge(fingerprint_round_trip(model))


def fingerprint_run(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int,
    deterministic: bool,
    progress: Progress,
) -> Fingerprint:
    """Observe what running a model gives, and a second run must give again: `take_fingerprint` less state and files."""
    options: dict[str, Any] = {"seed": seed, "deterministic": deterministic}
    seen = fingerprint_behaviour(model, probes, **options, on_probe=progress)
    if (probe := gradient_probe(probes)) is not None:
        progress("gradients")
        seen = seen.merge(fingerprint_gradients(model, probe, **options))
    return seen


def count_steps(probes: Sequence[Probe]) -> int:
    """How many times `take_fingerprint` reports progress."""
    return 2 + count_run_steps(probes)


def count_run_steps(probes: Sequence[Probe]) -> int:
    """How many times `fingerprint_run` reports progress."""
    num_generating = sum(not probe.decode_steps for probe in probes)
    return len(probes) + num_generating + (gradient_probe(probes) is not None)
