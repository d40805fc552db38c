"""The table of checks: what there is, what each needs, and the function that runs it. The commands read it.

In: what is to be loaded, and a run. Out: check results as they are made.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate import jobs
from theworld_validate.results import CheckResult, Environment, InputError, Status, combine
from theworld_validate.subjects.default_targets import check_the_worlds, default_targets
from theworld_validate.subjects.subject import Subject
from theworld_validate.synthetic_checkpoints import prepare_tiny
from theworld_validate.target import CANDIDATE_TARGET, Target
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Audit, Run, check_in_worker

if TYPE_CHECKING:
    from theworld_validate.audits.fresh_process import FreshProcess
    from theworld_validate.memory.cells import Cell
    from theworld_validate.parity.allowances import Allowance

Checks = Iterator[CheckResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What earlier groups of the same command found, and what was started ahead of them.

    Args:
        checks: of the groups before.
        process: for the group "globals"; None where it was not started ahead.
    """

    checks: Sequence[CheckResult] = field(default_factory=list)
    process: "FreshProcess | None" = None

    def verdict_of(self, group: str) -> Status | None:
        """The verdict of a group; None where it did not run."""
        found = [check.status for check in self.checks if check.id.partition(".")[0] == group]
        return combine(found) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of checks.

    Args:
        id: what --only takes; the ids of its checks start with it.
        about: one line for people.
        needs: "cosmos" where it is about the world branch, "gpu" where it needs a device; empty for neither.
        audit: gives the one job that makes its checks, so that groups that follow each other share the cores.
        work: yields its checks, where it is more than one job.
        is_long: whether its job takes longer than the others, and so is started first.
    """

    id: str
    about: str
    needs: tuple[str, ...] = ()
    audit: Callable[[Target, Run, Earlier], Audit] | None = None
    work: Callable[[Target, Run, Earlier], Checks] | None = None
    is_long: bool = False


def parity(target: Target, run: Run, _earlier: Earlier) -> Checks:
    """TheWorld with its branch off against pure Gemma 3."""
    yield from compare_targets(target, run)


def compare_targets(
    target: Target,
    run: Run,
    *,
    reference: str | None = None,
    candidate: str | None = None,
    probe_names: Sequence[str] = (),
    control_in_own_process: bool = False,
    allowances: "Sequence[Allowance]" = (),
    accept_rounding: bool = False,
    truth: str | None = None,
    sketch: bool = False,
    prefix: str | None = None,
) -> Checks:
    """Two loaders on one checkpoint; see `parity.check.check_parity`.

    Args:
        reference, candidate: "module:name"; by the checkpoint's family if None.
        accept_rounding: have the referee judge numbers that are not equal.
        truth: the dtype that the reference is also run in, which the referee judges by; None for none.
        prefix: where the model lies in what the candidate's loader returns, such as "lm."; None to find it.

    Raises:
        InputError: if the checkpoint is of a family for which there is no candidate, or cannot be used.
    """
    from theworld_validate.parity.check import check_parity

    base, own = default_targets(target.checkpoint)
    if candidate is None and own is None:
        raise InputError(
            f"{target.checkpoint}: {CANDIDATE_TARGET} loads Gemma 3, and this is for {base}; "
            "name what loads your model with --candidate MODULE:NAME"
        )
    expected = Subject.of(target, reference or base)
    yield from check_parity(
        expected,
        replace(Subject.of(target, candidate or own or CANDIDATE_TARGET), prefix=prefix),
        run=run,
        probe_names=probe_names,
        control_in_own_process=control_in_own_process,
        allowances=allowances,
        accept_rounding=accept_rounding,
        truth=None if truth is None else replace(expected, dtype=truth),
        sketch=sketch,
    )


def _audit(name: str, target: Target | None, **arguments: object) -> Audit:
    given = arguments if target is None else {"target": target, **arguments}
    record = None
    if target is not None:
        base, own = default_targets(target.checkpoint)
        record = Subject.of(target, own or base, cosmos=target.cosmos).record("model")
    job = Job(name=name, function=f"theworld_validate.jobs:{name}", arguments=dict(given), is_subject=True)
    return Audit(job=job, record=record)


def world(target: Target, _run: Run, _earlier: Earlier, *, frames: Path | None = None) -> Audit:
    """The world path."""
    check_the_worlds(target.checkpoint, "the world path")
    return _audit("world", target, frames=frames)


def files(target: Target, _run: Run, _earlier: Earlier) -> Audit:
    """The checkpoint's files."""
    return audit_files(target.checkpoint)


def audit_files(checkpoint: str, *, verify: bool = False) -> Audit:
    """A checkpoint's files, and with `verify` a hub cache's checksums."""
    return _audit("files", None, checkpoint=checkpoint, verify=verify)


def drift(base: str, trained: str, *, cosmos: str | None = None, trains: Sequence[str] = ()) -> Audit:
    """A trained checkpoint against its base."""
    return _audit("drift", None, base=base, trained=trained, cosmos=cosmos, trains=tuple(trains))


def training(run: Run, *, aspects: Sequence[str] = ()) -> Checks:
    """What a training of the tiny model keeps.

    Raises:
        InputError: if there is no such aspect.
    """
    from theworld_validate.audits.training import ASPECTS

    for name in aspects:
        if name not in ASPECTS:
            hint = did_you_mean(name, ASPECTS)
            raise InputError(f"--aspect {name}: there is no such aspect; there are {', '.join(ASPECTS)}{hint}")
    prepare_tiny(run)
    run.expect(len(aspects or ASPECTS))
    yield from check_in_worker(run, _audit("training", None, aspects=tuple(aspects)))


def buffers(
    target: Target,
    _run: Run,
    _earlier: Earlier,
    *,
    dtypes: Sequence[str] = (),
    after: Sequence[str] = ("save",),
) -> Audit:
    """Every buffer."""
    return _audit("buffers", target, dtypes=tuple(dtypes) or (target.dtype,), after=tuple(after))


def gradients(target: Target, _run: Run, _earlier: Earlier, *, presets: Sequence[str] = ()) -> Audit:
    """One training step a preset."""
    return _audit("gradients", target, presets=tuple(presets))


def params(target: Target, _run: Run, _earlier: Earlier) -> Audit:
    """Parameters by component."""
    return count_params(model=target.checkpoint, cosmos=target.cosmos, dtype=target.dtype)


def count_params(
    *,
    model: str | None = None,
    cosmos: str | None = None,
    config: str | None = None,
    presets: Sequence[str] = (),
    dtype: str = "bfloat16",
    components: Path | None = None,
) -> Audit:
    """Count parameters of a checkpoint, or of a geometry by name or file."""
    arguments = {"model": model, "cosmos": cosmos, "config": config, "presets": tuple(presets), "dtype": dtype}
    return _audit("params", None, **arguments, components=components)


def global_state(target: Target, run: Run, earlier: Earlier, *, modules: Sequence[str] = ()) -> Checks:
    """What imports and loads change, in fresh processes."""
    from theworld_validate.audits.global_state import check_globals

    check_the_worlds(target.checkpoint, "what its import changes")
    yield from check_globals(target, modules=modules, run=run, process=earlier.process)


def memory(_target: Target, _run: Run, _earlier: Earlier) -> Audit:
    """Predict a few cells of the tiny geometry: that the prediction runs here at all."""
    from theworld_validate.memory.answers import ModelSource

    source = ModelSource(geometry="tiny")
    arguments = {"source": source, "cells": _few_cells()}
    job = Job(name="memory", function=jobs.job_name(jobs.memory), arguments=arguments)
    return Audit(job=job, record=source.record())


def _few_cells() -> "tuple[Cell, ...]":
    """The least and the most that a step does: the projection alone, and everything, its activations recomputed."""
    from theworld_validate.memory.cells import build_matrix

    least = build_matrix(preset=("projection",), text_tokens=(256,))
    return (*least, *build_matrix(preset=("full",), checkpointing=(True,), text_tokens=(256,)))


def measure(target: Target, run: Run, _earlier: Earlier) -> Checks:
    """Measure the memory of the two presets at the ends."""
    from theworld_validate.memory.checks import measure_target

    check_the_worlds(target.checkpoint, "measured memory")
    device = "cuda" if target.device == "cpu" else target.device
    yield from measure_target(run, replace(target, device=device), _few_cells())


def claims(target: Target, run: Run, earlier: Earlier) -> Audit:
    """Every claim of the first implementation notes; parity is run for it where it was not."""
    check_the_worlds(target.checkpoint, "what its documents claim")
    verdict = earlier.verdict_of("parity")
    if verdict is None:
        verdict = combine([check.status for check in parity(target, run, earlier)])
    return _audit("claims", target, parity=verdict)


TABLE = (
    Group(id="parity", about="the candidate with the branch off is pure Gemma 3, bit for bit", work=parity),
    Group(id="globals", about="imports and loads change no global state", work=global_state),
    Group(id="files", about="the checkpoint's files fit the model and hold numbers", audit=files),
    Group(id="world", about="the world path does what it is for", needs=("cosmos",), audit=world),
    Group(id="buffers", about="every buffer is as the base class and its formula have it", audit=buffers),
    Group(id="gradients", about="one training step reaches what is meant", needs=("cosmos",), audit=gradients),
    Group(id="params", about="parameters by component and preset", needs=("cosmos",), audit=params),
    Group(id="memory", about="GPU memory can be predicted here", audit=memory, is_long=True),
    Group(id="claims", about="claims of the first implementation notes, measured", audit=claims, is_long=True),
    Group(id="measure", about="GPU memory of real steps", needs=("cosmos", "gpu"), work=measure),
)
GROUPS = {group.id: group for group in TABLE}
SUITES = {
    "all": tuple(group.id for group in TABLE if "gpu" not in group.needs),
    "gpu": tuple(GROUPS),
    "parity": ("parity", "files", "buffers", "globals"),
}
ALONE = Earlier()


def choose_groups(suite: str, only: Sequence[str]) -> tuple[Group, ...]:
    """The groups of checks that the options name, in the order in which they run.

    Raises:
        InputError: for a name that does not exist, with the closest that does.
    """
    for option, name, known in (("--suite", suite, SUITES), *(("--only", name, GROUPS) for name in only)):
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"{option} {name}: there is no such name; there are {', '.join(known)}{hint}")
    return tuple(group for name, group in GROUPS.items() if name in (only or SUITES[suite]))


def ask_environment(run: Run) -> Environment:
    """Where workers run, with the devices that they see."""
    run.do([Job(name="environment", function=jobs.job_name(jobs.environment))])
    if run.environment is None:
        raise RuntimeError("the environment could not be described")
    return run.environment
