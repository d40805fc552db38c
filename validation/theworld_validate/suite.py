"""The table of checks: what there is, what each needs, and the function that runs it. The commands read it.

In: what is to be loaded, and a run. Out: check results as they are made.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from theworld.checkpoints.error_text import did_you_mean
from theworld.vae_geometries import DEFAULT_VAE
from theworld_validate import jobs
from theworld_validate.results import CheckResult, Environment, InputError, Status, combine
from theworld_validate.subjects.default_targets import check_the_worlds, default_targets
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, Target
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, ask, check_in_worker

if TYPE_CHECKING:
    from theworld_validate.memory.cells import Cell
    from theworld_validate.parity.allowances import Allowance

Checks = Iterator[CheckResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What earlier groups of the same command found."""

    checks: Sequence[CheckResult] = field(default_factory=list)

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
        work: yields its checks.
    """

    id: str
    about: str
    needs: tuple[str, ...] = ()
    work: Callable[[Target, Run, Earlier], Checks]


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


def _audit(name: str, run: Run, target: Target | None, **arguments: object) -> Checks:
    given = arguments if target is None else {"target": target, **arguments}
    record = None
    if target is not None:
        base, own = default_targets(target.checkpoint)
        record = Subject.of(target, own or base, cosmos=target.cosmos).record("model")
    job = Job(name=name, function=f"theworld_validate.jobs:{name}", arguments=dict(given), is_subject=True)
    yield from check_in_worker(run, job, record)


def world(target: Target, run: Run, _earlier: Earlier, *, frames: Path | None = None) -> Checks:
    """The world path."""
    check_the_worlds(target.checkpoint, "the world path")
    yield from _audit("world", run, target, frames=frames)


def files(target: Target, run: Run, _earlier: Earlier) -> Checks:
    """The checkpoint's files."""
    yield from audit_files(target.checkpoint, run)


def audit_files(checkpoint: str, run: Run, *, verify: bool = False) -> Checks:
    """A checkpoint's files, and with `verify` a hub cache's checksums."""
    yield from _audit("files", run, None, checkpoint=checkpoint, verify=verify)


def drift(run: Run, base: str, trained: str, *, cosmos: str | None = None, trains: Sequence[str] = ()) -> Checks:
    """A trained checkpoint against its base."""
    yield from _audit("drift", run, None, base=base, trained=trained, cosmos=cosmos, trains=tuple(trains))


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
    yield from _audit("training", run, None, aspects=tuple(aspects))


def buffers(
    target: Target,
    run: Run,
    _earlier: Earlier,
    *,
    dtypes: Sequence[str] = (),
    after: Sequence[str] = ("save",),
) -> Checks:
    """Every buffer."""
    yield from _audit("buffers", run, target, dtypes=tuple(dtypes) or (target.dtype,), after=tuple(after))


def gradients(target: Target, run: Run, _earlier: Earlier, *, presets: Sequence[str] = ()) -> Checks:
    """One training step a preset."""
    yield from _audit("gradients", run, target, presets=tuple(presets))


def params(target: Target, run: Run, _earlier: Earlier) -> Checks:
    """Parameters by component."""
    yield from count_params(run, model=target.checkpoint, cosmos=target.cosmos, dtype=target.dtype)


def count_params(
    run: Run,
    *,
    model: str | None = None,
    cosmos: str | None = None,
    config: str | None = None,
    presets: Sequence[str] = (),
    dtype: str = "bfloat16",
    components: Path | None = None,
) -> Checks:
    """Count parameters of a checkpoint, or of a geometry by name or file."""
    arguments = {"model": model, "cosmos": cosmos, "config": config, "presets": tuple(presets), "dtype": dtype}
    yield from _audit("params", run, None, **arguments, components=components)


def global_state(target: Target, run: Run, _earlier: Earlier, *, modules: Sequence[str] = ()) -> Checks:
    """What imports and loads change, in fresh processes."""
    from theworld_validate.audits.global_state import check_globals

    check_the_worlds(target.checkpoint, "what its import changes")
    yield from check_globals(target, modules=modules, run=run)


def memory(_target: Target, run: Run, _earlier: Earlier) -> Checks:
    """Predict a few cells of the tiny geometry: that the prediction runs here at all."""
    from theworld_validate.memory.answers import ModelSource, Terms
    from theworld_validate.memory.checks import predict_in_workers

    yield from predict_in_workers(run, ModelSource(geometry="tiny"), _few_cells(), terms=Terms())


def _few_cells() -> "tuple[Cell, ...]":
    """The two presets at the ends, with and without checkpointing."""
    from theworld_validate.memory.cells import build_matrix

    return tuple(build_matrix(preset=("projection", "full"), checkpointing=(False, True), text_tokens=(256,)))


def measure(target: Target, run: Run, _earlier: Earlier) -> Checks:
    """Measure the memory of the two presets at the ends."""
    from theworld_validate.memory.checks import measure_target

    check_the_worlds(target.checkpoint, "measured memory")
    device = "cuda" if target.device == "cpu" else target.device
    yield from measure_target(run, replace(target, device=device), _few_cells())


def claims(target: Target, run: Run, earlier: Earlier) -> Checks:
    """Every documented claim; parity is run for it where it was not."""
    check_the_worlds(target.checkpoint, "what its documents claim")
    verdict = earlier.verdict_of("parity")
    if verdict is None:
        verdict = combine([check.status for check in parity(target, run, earlier)])
    yield from _audit("claims", run, target, parity=verdict)


TABLE = (
    Group(id="parity", about="the candidate with the branch off is pure Gemma 3, bit for bit", work=parity),
    Group(id="files", about="the checkpoint's files fit the model and hold numbers", work=files),
    Group(id="world", about="the world path does what it is for", needs=("cosmos",), work=world),
    Group(id="buffers", about="every buffer is as the base class and its formula have it", work=buffers),
    Group(id="gradients", about="one training step reaches what is meant", needs=("cosmos",), work=gradients),
    Group(id="params", about="parameters by component and preset", needs=("cosmos",), work=params),
    Group(id="globals", about="imports and loads change no global state", work=global_state),
    Group(id="memory", about="GPU memory can be predicted here", work=memory),
    Group(id="claims", about="documented claims, measured", work=claims),
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


def run_groups(target: Target, run: Run, groups: Sequence[Group]) -> Checks:
    """Every check of some groups; those about a world branch that is not there are skipped."""
    done: list[CheckResult] = []
    for group in groups:
        for check in _run_group(group, target, run, done):
            done.append(check)
            yield check


def _run_group(group: Group, target: Target, run: Run, done: list[CheckResult]) -> Checks:
    """One group; an error of the harness itself costs this group alone."""
    if "cosmos" in group.needs and target.cosmos is None:
        reason = "--model was given without --cosmos, and this is about the world branch"
        yield CheckResult(id=group.id, status=Status.SKIPPED, reason=reason, seconds=0.0)
        return
    try:
        yield from group.work(target, run, Earlier(checks=tuple(done)))
    except InputError:
        raise
    except Exception as error:
        import traceback

        from theworld.checkpoints.bounded_files import one_line

        run.tracebacks.append("".join(traceback.format_exception(error)))
        reason = one_line(f"an error of the harness itself: {type(error).__name__}: {error}")
        yield CheckResult(id=f"{group.id}.internal", status=Status.ERROR, reason=reason, seconds=0.0)


def prepare_tiny(run: Run) -> tuple[str, str]:
    """The embedded tiny checkpoints, written first where they are not in the cache: of Gemma and of Cosmos.

    Raises:
        InputError: if the cache folder cannot be used.
    """
    from theworld.synthetic import COSMOS_FOLDER, GEMMA_FOLDER, cache_folder

    try:
        folder = cache_folder("tiny")
        is_there = folder.is_dir()
    except (OSError, RuntimeError) as error:  # no home, or none that can be looked into
        raise InputError(f"the cache folder for the tiny checkpoint: {error}; set THEWORLD_CACHE") from error
    if not is_there:
        run.progress("preparing the tiny checkpoint")
        try:
            write_synthetic(run, size="tiny", directory=folder, seed=0, device="cpu")
        except InputError as error:
            if not folder.is_dir():  # not merely another process that was first
                raise InputError(f"the cache folder for the tiny checkpoint: {error}; set THEWORLD_CACHE") from error
    return str(folder / GEMMA_FOLDER), str(folder / COSMOS_FOLDER)


def write_synthetic(
    run: Run, *, size: str, directory: Path, seed: int, device: str, vae: str = DEFAULT_VAE, pipeline: bool = False
) -> tuple[str, str]:
    """Write a synthetic checkpoint; return its Gemma and its Cosmos folder. Nothing half-written is left.

    Raises:
        InputError: if the folder cannot be used.
    """
    from theworld.checkpoints.error_text import one_line

    with contextlib.ExitStack() as stack:
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            # The judge's, and not the worker's, which may be killed.
            scratch = tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name[:100]}-")
        except OSError as error:
            raise InputError(f"{one_line(directory)}: cannot write there ({error.strerror})") from error
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        arguments = {
            "size": size,
            "vae": vae,
            "directory": str(directory),
            "scratch": scratch,
            "seed": seed,
            "device": device,
            "pipeline": pipeline,
        }
        values = ask(run, Job(name="synth", function=jobs.job_name(jobs.synth), arguments=arguments))
    return str(values["gemma"]), str(values["cosmos"])


def ask_environment(run: Run) -> Environment:
    """Where workers run, with the devices that they see."""
    run.do([Job(name="environment", function=jobs.job_name(jobs.environment))])
    if run.environment is None:
        raise RuntimeError("the environment could not be described")
    return run.environment
