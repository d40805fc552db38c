"""A whole fingerprint of one loaded model, in parts as they are made.

In: what a loader returned, and probes. Out: (step, part) pairs. The order matters: state first, before anything is
run, and again when all was run; the round trip last, since it loads further models. A step that raises gives a part
with a `Failure` for each section that it would have filled, and the others go on.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from theworld_validate.documents.observations import EMPTY, PROBE_SECTIONS, STATE_SECTIONS, Fingerprint
from theworld_validate.fingerprint.alignment import align_weights
from theworld_validate.fingerprint.behaviour import behaviour_steps, count_behaviour_steps
from theworld_validate.fingerprint.failures import failure_of
from theworld_validate.fingerprint.gradients import fingerprint_gradients
from theworld_validate.fingerprint.round_trip import fingerprint_round_trip
from theworld_validate.fingerprint.state import fingerprint_changes, fingerprint_state
from theworld_validate.probes.probe import Probe, gradient_probe, gradient_probes
from theworld_validate.subjects.wrappers import unwrap
from theworld_validate.target import REFERENCE_TARGET

Progress = Callable[[str], None]
Steps = Iterator[tuple[str, Fingerprint]]


def observe(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    sketch: bool = False,
    round_trip: bool = True,
    only: Sequence[str] | None = None,
    base_target: str = REFERENCE_TARGET,
    announce: bool = False,
) -> Steps:
    """Observe everything about a loaded model, step by step.

    Args:
        model: what a loader returned, in the mode that it left it in.
        probes: what to ask; `gradient_probes` says which of them the gradients are taken on.
        seed: set before each probe, before sampling and before the gradients.
        deterministic: choose deterministic kernels on CUDA.
        sketch: also sketch the tensors of trace, outputs, generation and gradients.
        round_trip: whether to save and load it at the end.
        only: sections that are wanted; None for all.
        base_target: what else loads the files that it saves.
        announce: yield each step's name before it is done too, with an `EMPTY` part.
    """
    wrapped = unwrap(model)
    state = tuple(name for name in STATE_SECTIONS if only is None or name in only)
    before = EMPTY
    if state:
        for name, part in _step("state", state, lambda: fingerprint_state(wrapped, state), announce=announce):
            before = before.merge(part)
            yield name, part
    running: Any = {"seed": seed, "deterministic": deterministic, "sketch": sketch}
    yield from observe_run(wrapped, probes, **running, only=only, announce=announce)
    if state and probes and _wanted((*PROBE_SECTIONS, "gradients"), only):
        yield from _step("state again", state, lambda: fingerprint_changes(wrapped, before), announce=announce)
    if round_trip and _wanted(("round_trip",), only):
        saved = ("round_trip",)
        yield from _step(
            "round trip", saved, lambda: fingerprint_round_trip(wrapped, base_target=base_target), announce=announce
        )


def observe_run(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    sketch: bool = False,
    only: Sequence[str] | None = None,
    announce: bool = False,
) -> Steps:
    """Observe what running a model gives, and a second run must give again: `observe` less state and files."""
    wrapped = unwrap(model)
    if _wanted((*PROBE_SECTIONS, "gradients"), only):
        align_weights(wrapped.model)
    if _wanted(PROBE_SECTIONS, only):
        # What was compiled from outside is asked there, or the compiled code would not run.
        asked = wrapped.outer if wrapped.is_compiled_outside else wrapped.model
        for probe in probes:
            yield from _ask(asked, probe, seed=seed, deterministic=deterministic, sketch=sketch, announce=announce)
    chosen = gradient_probes(probes)
    if chosen is not None and _wanted(("gradients",), only):
        yield from _step(
            "gradients",
            ("gradients",),
            lambda: fingerprint_gradients(wrapped, chosen, seed=seed, deterministic=deterministic, sketch=sketch),
            announce=announce,
        )


def _wanted(sections: Sequence[str], only: Sequence[str] | None) -> bool:
    return only is None or any(name in only for name in sections)


def _step(
    name: str,
    sections: Sequence[str],
    take: Callable[[], Fingerprint],
    *,
    probe: str | None = None,
    announce: bool,
) -> Steps:
    if announce:
        yield name, EMPTY
    yield name, _guarded(sections, take, probe)


def _guarded(sections: Sequence[str], take: Callable[[], Fingerprint], probe: str | None) -> Fingerprint:
    try:
        return take()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a subject raises
        return Fingerprint(sections={}, failures=tuple(failure_of(error, section, probe) for section in sections))


def _ask(asked: Any, probe: Probe, *, seed: int, deterministic: bool, sketch: bool, announce: bool) -> Steps:
    """Ask one probe; if it ends before all its steps are done, what is missing is said."""
    steps = behaviour_steps(asked, (probe,), seed=seed, deterministic=deterministic, sketch=sketch)
    for name in names_of_steps(probe):
        if announce:
            yield name, EMPTY
        part = _guarded(PROBE_SECTIONS, lambda: next(steps)[1], probe.name)
        yield name, part
        if part.failures and not part.sections:
            failed = {failure.section for failure in part.failures}
            if failed == set(PROBE_SECTIONS):  # not one step's own failure: the interview itself broke off
                return


def names_of_steps(probe: Probe) -> list[str]:
    """What `behaviour_steps` names the steps of one probe."""
    return [probe.name, *(f"{probe.name}, {what}" for what in (*probe.extras, *probe.generation))]


def take_fingerprint(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    sketch: bool = False,
    round_trip: bool = True,
    base_target: str = REFERENCE_TARGET,
    progress: Progress = lambda step: None,
) -> Fingerprint:
    """Observe everything about a loaded model, all at once: see `observe`.

    Args:
        progress: called with a line before each of `count_steps` steps.
    """
    running: Any = {"seed": seed, "deterministic": deterministic, "sketch": sketch}
    steps = observe(model, probes, **running, round_trip=round_trip, base_target=base_target, announce=True)
    return _merge(steps, progress)


def fingerprint_run(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    sketch: bool = False,
    progress: Progress = lambda step: None,
) -> Fingerprint:
    """Observe what running a model gives, all at once: see `observe_run`."""
    running: Any = {"seed": seed, "deterministic": deterministic, "sketch": sketch}
    return _merge(observe_run(model, probes, **running, announce=True), progress)


def _merge(steps: Steps, progress: Progress) -> Fingerprint:
    seen = EMPTY
    for name, part in steps:
        if part is EMPTY:
            progress(name)
        seen = seen.merge(part)
    return seen


def count_steps(probes: Sequence[Probe]) -> int:
    """How many steps `observe` takes."""
    return 2 + bool(probes) + count_run_steps(probes)


def count_run_steps(probes: Sequence[Probe]) -> int:
    """How many steps `observe_run` takes."""
    return count_behaviour_steps(probes) + (gradient_probe(probes) is not None)
