"""The audits' work, as it is done inside of workers: load, look, and say what was found.

In: what is to be loaded. Out: messages: a finished check each. Imported by name in a worker; the judge only names
these functions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theworld_validate.results import CheckResult, InputError, Scalar, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET, Target
from theworld_validate.workers.child import say
from theworld_validate.workers.messages import Answer, Checked, Message, Step, Where

if TYPE_CHECKING:
    from theworld_validate.memory.answers import ModelSource
    from theworld_validate.memory.cells import Cell

_HERE = "theworld_validate.jobs:"


def job_name(function: Callable[..., Iterator[Message]]) -> str:
    """What a `Job` is given to have a function of this module done."""
    return _HERE + function.__name__


def tell(text: str) -> None:
    """Say what is done next; for functions that take `progress`."""
    say(Step(text=text))


def _checked(checks: Iterable[CheckResult]) -> Iterator[Message]:
    """The checks, and then where they ran: asking a GPU for its name starts it."""
    for check in checks:
        yield Checked(check=check)
    yield from environment()


def environment() -> Iterator[Message]:
    """Say where workers run."""
    from theworld_validate.environment import describe_environment

    yield Where(environment=describe_environment())


def files(checkpoint: str, *, verify: bool) -> Iterator[Message]:
    """Audit a checkpoint's files without loading it."""
    from theworld_validate.audits.files import check_files

    yield from _checked(check_files(checkpoint, verify=verify, progress=tell))


def drift(base: str, trained: str, *, cosmos: str | None, trains: Sequence[str]) -> Iterator[Message]:
    """Compare a trained checkpoint with its base, component by component."""
    from theworld_validate.audits.drift import check_drift

    yield from _checked([check_drift(base, trained, cosmos=cosmos, trains=trains, progress=tell)])


def training(*, aspects: Sequence[str]) -> Iterator[Message]:
    """Train the tiny model, and look at what a training must keep."""
    from theworld_validate.audits.training import check_training

    yield from _checked(check_training(aspects, progress=tell))


def buffers(target: Target, *, dtypes: Sequence[str], after: Sequence[str]) -> Iterator[Message]:
    """Audit buffers; of a `TheWorld` with its branch on if a Cosmos repository is named."""
    from theworld_validate.audits.buffers import check_buffers
    from theworld_validate.subjects.architectures import architecture_of

    found = architecture_of(target.checkpoint)
    for dtype in dtypes:
        cast = replace(target, dtype=dtype)
        reference = Subject.of(cast, found.base_target)
        candidate = Subject.of(cast, found.own_target, cosmos=target.cosmos if found.is_the_worlds else None)
        yield from _checked(check_buffers(reference, candidate, after=after, progress=tell))


def params(
    *,
    model: str | None,
    cosmos: str | None,
    config: str | None,
    presets: Sequence[str],
    dtype: str,
    components: Path | None,
) -> Iterator[Message]:
    """Count the parameters of a checkpoint, a geometry by name or a bare config; the tiny geometry by default."""
    from theworld_validate.audits.family_params import check_family_params
    from theworld_validate.audits.module_components import read_components
    from theworld_validate.audits.params import check_params
    from theworld_validate.memory.answers import ModelSource
    from theworld_validate.subjects.architectures import architecture_of

    if model is not None and config is not None:
        raise InputError("--model and --config both name a model; give one of the two")
    tell("reading configs")
    chosen = None if components is None else read_components(components)
    found = None if model is None else architecture_of(model)
    if chosen is not None and found is None:
        raise InputError("--components lists the parameters of a checkpoint; name one with --model")
    if found is not None and (chosen is not None or not found.is_the_worlds):
        if presets:
            raise InputError("--preset is TheWorld's own; leave it out, or leave --components out")
        yield from _checked([check_family_params(found.config, found.model_class, chosen=chosen, dtype=dtype)])
        return
    shape = ModelSource(geometry=config or "tiny", checkpoint=model, cosmos=cosmos).read()
    yield from _checked(check_params(shape, presets=presets, dtype=dtype, progress=tell))


def gradients(target: Target, *, presets: Sequence[str]) -> Iterator[Message]:
    """Audit the gradients of the presets that are for use, or of those named; of another family, of one step."""
    from theworld_validate.audits.family_gradients import check_family_gradients
    from theworld_validate.audits.gradients import PRESETS, check_gradients
    from theworld_validate.parity.questions import questions_of
    from theworld_validate.subjects.architectures import architecture_of

    found = architecture_of(target.checkpoint)
    if not found.is_the_worlds:
        if presets:
            raise InputError("--preset is TheWorld's own; leave it out")
        subject = Subject.of(target, found.own_target)
        tell("gradients of one step")
        yield from _checked([check_family_gradients(subject, questions_of(subject, ()).probes)])
        return
    if target.cosmos is None:
        raise InputError("--model was given without --cosmos; name a Cosmos repository or VAE folder")
    subject = Subject.of(target, CANDIDATE_TARGET, cosmos=target.cosmos)
    yield from _checked(check_gradients(subject, presets=presets or PRESETS, progress=tell))


def world(target: Target, *, frames: Path | None) -> Iterator[Message]:
    """Check the world path, on a clip from a file if one is named."""
    from theworld_validate.world.check import check_world

    assert target.cosmos is not None
    yield from _checked(
        check_world(Subject.of(target, CANDIDATE_TARGET, cosmos=target.cosmos), frames=frames, progress=tell)
    )


def memory(source: "ModelSource", cells: "Sequence[Cell]") -> Iterator[Message]:
    """Predict cells."""
    from theworld_validate.memory.checks import check_predicted

    yield from _checked(check_predicted(source.read(), cells, progress=tell))


def claims(target: Target, *, parity: Status) -> Iterator[Message]:
    """Measure the claims of the first implementation notes.

    Counts are measured on the documented geometry, loading on the checkpoint at hand, training on the tiny model.

    Args:
        parity: the verdict on the disabled branch.
    """
    from theworld_validate.audits.claims import check_claims
    from theworld_validate.audits.claims_evidence import Evidence
    from theworld_validate.audits.loading_facts import measure_loading
    from theworld_validate.audits.params import check_params, ledger_of
    from theworld_validate.audits.training_facts import measure_training
    from theworld_validate.subjects.empty_models import blueprint_of_size, build_on_meta

    tell("the first implementation notes' claims: counts")
    config = blueprint_of_size("4b")
    model = build_on_meta(config)
    ledger = ledger_of(model)
    _, presets = check_params(config, model=model)
    rows: Any = presets.measurements["presets"]
    predictors = _count_predictors()
    tell("the first implementation notes' claims: loading")
    facts = measure_loading(Subject.of(replace(target, dtype="bfloat16"), REFERENCE_TARGET))
    tell("the first implementation notes' claims: training")
    evidence = Evidence(
        config=config,
        ledger=ledger,
        presets={row["preset"]: row for row in rows},
        predictors=predictors,
        parity=parity,
        facts=facts,
        training_facts=measure_training(),
        training=_measure_training(target),
    )
    yield from _checked(check_claims(evidence))


def _count_predictors() -> dict[str, int]:
    """Parameters of what predicts, of the documented geometry, from models without weights."""
    from theworld.pipeline_geometries import build_on_meta, pipeline_geometry

    models = build_on_meta(pipeline_geometry("4b"))
    return {
        name: sum({id(parameter): parameter.numel() for parameter in model.parameters()}.values())
        for name, model in models.items()
    }


def _measure_training(target: Target) -> dict[tuple[str, bool], Any]:
    """Measure the steps that those claims are about; nothing without a GPU or on another geometry."""
    from theworld_validate.audits.claims_evidence import Training
    from theworld_validate.audits.params import is_documented_geometry
    from theworld_validate.memory.cells import build_matrix
    from theworld_validate.memory.measure import measure_cells
    from theworld_validate.subjects.checkpoints import read_config

    if target.device == "cpu" or target.cosmos is None or not is_documented_geometry(read_config(target.checkpoint)):
        return {}
    model = Subject.of(replace(target, dtype="bfloat16"), CANDIDATE_TARGET, cosmos=target.cosmos).load()
    cells = build_matrix(preset=("projection", "vision", "language", "full", "vae"), checkpointing=(False, True))
    return {
        (step.cell.preset, step.cell.checkpointing): Training(
            peak_bytes=step.peak_allocated_bytes,
            activation_bytes=step.activation_bytes,
            step_seconds=step.step_seconds,
        )
        for step in measure_cells(model, cells, progress=tell)
        if step.peak_allocated_bytes is not None and step.activation_bytes is not None and step.step_seconds is not None
    }


def synth(
    *, size: str, vae: str, directory: str, scratch: str, seed: int, device: str, pipeline: str | None
) -> Iterator[Message]:
    """Write a synthetic checkpoint by way of a scratch folder, and answer where it is."""
    from theworld.synthetic import write_checkpoint
    from theworld_validate.subjects.subject import check_device

    check_device(device)

    def progress(done: int, total: int) -> None:
        tell(f"writing {size}: {100 * done // max(total, 1)} %")

    try:
        made = write_checkpoint(
            size,
            Path(directory),
            seed=seed,
            device=device,
            vae=vae,
            pipeline=pipeline,
            progress=progress,
            scratch=Path(scratch),
        )
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    places: dict[str, Scalar] = {"gemma": str(made.gemma), "cosmos": str(made.cosmos)}
    yield Answer(values={**places})
