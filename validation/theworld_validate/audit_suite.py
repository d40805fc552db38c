"""Audits put together from the options of the command line.

In: checkpoints and how to load them. Out: check results. Evidence that one check needs from another is carried
here, so that checks never import each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from theworld_validate.results import CheckResult, InputError, combine
from theworld_validate.subjects.subject import CANDIDATE_TARGET, REFERENCE_TARGET, Subject

Progress = Callable[[str], None]


def check_buffers_of(
    checkpoint: str, cosmos: str | None, *, after: Sequence[str], progress: Progress, **loading: Any
) -> tuple[CheckResult, ...]:
    """Audit the buffers of a `TheWorld`, with its branch on if a Cosmos repository is named."""
    from theworld_validate.audits.buffers import check_buffers

    return check_buffers(
        Subject(target=REFERENCE_TARGET, checkpoint=checkpoint, **loading),
        Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, cosmos=cosmos, **loading),
        after=after,
        progress=progress,
    )


def check_params_of(
    *,
    model: str | None,
    cosmos: str | None,
    config: str | None,
    presets: Sequence[str] = (),
    dtype: str,
    progress: Progress,
) -> tuple[CheckResult, ...]:
    """Count the parameters of a checkpoint, a geometry by name, or a bare config; the tiny geometry if none is named.

    Raises:
        InputError: if both a checkpoint and a config are given, or one cannot be read.
    """
    from theworld_validate.audits.params import check_params

    progress("reading configs")
    blueprint = read_blueprint(model=model, cosmos=cosmos, config=config, default="tiny")
    return check_params(blueprint, presets=presets, dtype=dtype, progress=progress)


def read_blueprint(*, model: str | None, cosmos: str | None, config: str | None, default: str) -> Any:
    """The config that the options name: a checkpoint's, a geometry's by name, or a bare file's.

    Raises:
        InputError: if both a checkpoint and a config are given, or one cannot be read.
    """
    from theworld_validate.subjects import empty_models as blueprints

    if model is not None and config is not None:
        raise InputError("--model and --config both name a model; give one of the two")
    if model is not None:
        return blueprints.blueprint_of_checkpoint(model, cosmos)
    if config is not None and Path(config).suffix == ".json":
        return blueprints.blueprint_of_file(Path(config))
    return blueprints.blueprint_of_size(config or default)


def check_measured_of(checkpoint: str, cosmos: str, cells: Sequence[Any], **options: Any) -> tuple[CheckResult, ...]:
    """Measure cells on a checkpoint in bfloat16; further options are those of `Subject` and `check_measured`.

    Raises:
        InputError: if it cannot be loaded, or a cell cannot be measured.
    """
    from theworld_validate.memory.cells import check_length
    from theworld_validate.memory.checks import check_measured

    progress = options.pop("progress")
    loading = {name: options.pop(name) for name in ("device", "attn", "seed")}
    progress("loading the model")
    model = Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, cosmos=cosmos, **loading).load()
    for cell in cells:
        try:
            check_length(cell, model.config)
        except ValueError as error:
            raise InputError(str(error)) from error
        if not model.world_config.use_temporal_embedding != (cell.preset == "documented"):
            raise InputError(
                f"--preset {cell.preset}: it describes another model than the other presets; "
                "theworld-validate memory predict takes it"
            )
    return check_measured(model, cells, progress=progress, **options)


def check_gradients_of(
    checkpoint: str, cosmos: str, *, presets: Sequence[str] | None = None, progress: Progress, **loading: Any
) -> tuple[CheckResult, ...]:
    """Audit the gradients of the presets that are for use, or of those named."""
    from theworld_validate.audits.gradients import PRESETS, check_gradients

    subject = Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, cosmos=cosmos, **loading)
    return check_gradients(subject, presets=presets or PRESETS, progress=progress)


def check_claims_of(
    checkpoint: str,
    cosmos: str | None = None,
    *,
    parity: Sequence[CheckResult] | None = None,
    progress: Progress,
    **loading: Any,
) -> tuple[CheckResult, ...]:
    """Measure the documented claims: counts on the documented geometry, loading on the checkpoint at hand.

    Args:
        cosmos: on a GPU, and with a checkpoint of the documented geometry, training steps are measured too.
        parity: results that are already there; parity is run if None.
    """
    from theworld_validate.audits.claims import Evidence, check_claims
    from theworld_validate.audits.loading_facts import measure_loading
    from theworld_validate.audits.params import check_params, ledger_of
    from theworld_validate.subjects.empty_models import blueprint_of_size, build_on_meta
    from theworld_validate.suite import check_parity_of

    if parity is None:
        parity = check_parity_of(checkpoint, progress=progress, **loading)
    progress("documented claims")
    config = blueprint_of_size("4b")
    _, presets = check_params(config)
    subject = replace(Subject(target=REFERENCE_TARGET, checkpoint=checkpoint, **loading), dtype="bfloat16")
    evidence = Evidence(
        config=config,
        ledger=ledger_of(build_on_meta(config)),
        presets={row["preset"]: row for row in presets.measurements["presets"]},
        parity=combine([check.status for check in parity]),
        facts=measure_loading(subject),
        training=_measure_training(checkpoint, cosmos, progress, loading),
    )
    return check_claims(evidence)


def _measure_training(
    checkpoint: str, cosmos: str | None, progress: Progress, loading: dict[str, Any]
) -> dict[tuple[str, bool], Any]:
    """Measure the steps that the documented claims are about; nothing without a GPU or on another geometry."""
    from theworld_validate.audits.claims import Training
    from theworld_validate.audits.params import is_documented_geometry
    from theworld_validate.memory.cells import build_matrix
    from theworld_validate.memory.measure import measure_cells
    from theworld_validate.subjects.subject import read_config

    device = loading.get("device", "cpu")
    if device == "cpu" or cosmos is None or not is_documented_geometry(read_config(checkpoint)):
        return {}
    subject = Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, cosmos=cosmos, **loading)
    model = replace(subject, dtype="bfloat16").load()
    cells = build_matrix(preset=("projection", "vision", "language", "full", "vae"), checkpointing=(False, True))
    return {
        (step.cell.preset, step.cell.checkpointing): Training(
            peak_bytes=step.peak_allocated_bytes,
            activation_bytes=step.activation_bytes,
            step_seconds=step.step_seconds,
        )
        for step in measure_cells(model, cells, progress=progress)
        if step.peak_allocated_bytes is not None and step.activation_bytes is not None and step.step_seconds is not None
    }


def check_memory_of_tiny(progress: Progress) -> tuple[CheckResult, ...]:
    """Predict a few cells of the tiny geometry: that the prediction runs here at all."""
    from theworld_validate.memory.cells import build_matrix
    from theworld_validate.memory.checks import check_predicted
    from theworld_validate.subjects.empty_models import blueprint_of_size

    cells = build_matrix(preset=("projection", "full"), checkpointing=(False, True), text_tokens=(256,))
    return check_predicted(blueprint_of_size("tiny"), cells, progress=progress)
