"""Parameters, component by component, and what each freeze preset trains of them; no weight is needed.

In: a `TheWorldConfig`. Out: two checks: the ledger of components beside the figures of the first implementation
notes, and the presets.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from theworld_validate.audits.claims_file import read_documented_counts
from theworld_validate.audits.explanation import Explanation, explain
from theworld_validate.results import CheckResult, Finding, InputError, Status
from theworld_validate.subjects.empty_models import build_on_meta

Progress = Callable[[str], None]
_EMBEDDING = "model.language_model.embed_tokens.weight"


def check_params(
    config: Any,
    *,
    presets: Sequence[str] = (),
    dtype: str = "bfloat16",
    model: Any = None,
    progress: Progress = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Count a model's parameters on the meta device.

    Args:
        config: a `TheWorldConfig` with a world branch.
        presets: freeze presets to count; all if empty.
        model: `build_on_meta` of that config and dtype, which is frozen by each preset in turn; built here if None.

    Raises:
        InputError: for an unknown preset, or components that do not cover the model.
    """
    from theworld.freezing import PRESETS

    progress("parameters, component by component")
    started = time.perf_counter()
    model = build_on_meta(config, dtype=dtype) if model is None else model
    ledger = ledger_of(model)
    explanations = explain_documented(config, ledger)
    rows, findings = _component_rows(model, explanations)
    components = CheckResult(
        id="params.components",
        status=Status.FAILED if findings else Status.PASSED,
        seconds=time.perf_counter() - started,
        measurements={
            "parameters": sum(ledger.values()),
            "parameters_bytes": sum(row["total_bytes"] for row in rows if row["tied_to"] is None),
            "components": rows,
            "documented": [_documented_row(*item) for item in explanations],
        },
        findings=tuple(findings),
    )
    started = time.perf_counter()
    table = []
    for preset in presets or PRESETS:
        progress(f"freeze preset {preset}")
        table.append(_preset_row(config, preset, model, dtype=dtype))
    counted = CheckResult(
        id="params.presets",
        status=Status.PASSED,
        seconds=time.perf_counter() - started,
        measurements={"compared": len(table), "presets": table},
    )
    return components, counted


def ledger_of(model: Any) -> dict[str, int]:
    """Parameters of each part of a model; the language model in two: its embedding (and head), and the rest.

    Raises:
        InputError: if the components do not cover the model.
    """
    counts = {count.name: count.total for count in _count(model)}
    embedding = dict(model.named_parameters()).get(_EMBEDDING)
    ledger: dict[str, int] = {}
    for name, total in counts.items():
        if name == "language_model" and embedding is not None:
            ledger["language_embedding"] = embedding.numel()
            ledger["language_layers"] = total - embedding.numel()
        else:
            ledger[name] = total
    return ledger


def _count(model: Any) -> Any:
    from theworld.components import count_parameters

    try:
        return count_parameters(model)
    except ValueError as error:
        raise InputError(str(error)) from error


def is_documented_geometry(config: Any) -> bool:
    """Whether a config has the shapes that the published figures are about: those of Gemma 3 4B and Wan 2.1's VAE."""
    from theworld.geometries import geometry

    documented = geometry("4b").gemma_config
    world = config.world_config if "world_config" in vars(config) else None
    if world is not None and world.latent_channels != geometry("4b").vae_config["z_dim"]:
        return False
    return all(
        getattr(getattr(config, part), field) == documented[part][field]
        for part, field in (
            ("text_config", "hidden_size"),
            ("text_config", "num_hidden_layers"),
            ("text_config", "intermediate_size"),
            ("vision_config", "hidden_size"),
            ("vision_config", "num_hidden_layers"),
        )
    )


def explain_documented(config: Any, ledger: dict[str, int]) -> list[tuple[Any, Explanation]]:
    """Each documented count with what it is; nothing for another geometry than the documented one."""
    if not is_documented_geometry(config):
        return []
    return [(documented, explain(documented, ledger)) for documented in read_documented_counts()]


def _component_rows(
    model: Any, explanations: list[tuple[Any, Explanation]]
) -> tuple[list[dict[str, Any]], list[Finding]]:
    from theworld.components import parameters_by_component

    counts = _count(model)
    whole = sum(count.total for count in counts)
    sorted_parameters = parameters_by_component(model)
    rows = []
    for count in counts:
        dtypes = {str(p.dtype).removeprefix("torch.") for p in sorted_parameters[count.name].values()}
        rows.append(
            {
                "component": count.name,
                "total": count.total,
                "trainable": count.trainable,
                "frozen": count.total - count.trainable,
                "share": count.total / whole,
                "dtype": ", ".join(sorted(dtypes)),
                "total_bytes": count.total_bytes,
                "tied_to": None,
            }
        )
    rows += tied_rows(model, whole)
    findings = [
        Finding(
            code="params.documented",
            location=f"line {documented.line} of the first implementation notes",
            message=f"{documented.label}: documented {documented.count:,}, and no parts of the model sum to it",
            expected=documented.count,
            actual=explanation.measured,
            cause="the configuration is not the documented one, or a component changed",
            remedy="compare the config with google/gemma-3-4b-it and the Cosmos-Predict2 VAE",
        )
        for documented, explanation in explanations
        if explanation.verdict == "different"
    ]
    return rows, findings


def tied_rows(model: Any, whole: int) -> list[dict[str, Any]]:
    """Parameters that are another's under a second name: counted where the first is."""
    first_names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = first_names[id(parameter)]
        if first == name:
            continue
        trainable = parameter.numel() if parameter.requires_grad else 0
        rows.append(
            {
                "component": name,
                "total": parameter.numel(),
                "trainable": trainable,
                "frozen": parameter.numel() - trainable,
                "share": parameter.numel() / whole,
                "dtype": str(parameter.dtype).removeprefix("torch."),
                "total_bytes": parameter.numel() * parameter.element_size(),
                "tied_to": first,
            }
        )
    return rows


def _documented_row(documented: Any, explanation: Explanation) -> dict[str, Any]:
    return {
        "documented_as": documented.label,
        "line": documented.line,
        "documented": documented.count,
        "measured": explanation.measured,
        "verdict": explanation.verdict,
        "is": explanation.words,
    }


def _preset_row(config: Any, preset: str, model: Any, *, dtype: str) -> dict[str, Any]:
    """Count one preset: on the model at hand, or on one of its own where the preset changes the modules."""
    from theworld.freezing import PRESETS, has_temporal_embedding

    if preset not in PRESETS:
        raise InputError(f"--preset {preset}: no such freeze preset; there are {', '.join(PRESETS)}")
    if not has_temporal_embedding(PRESETS[preset]):
        model = build_on_meta(config, freeze=preset, dtype=dtype)
    else:
        model.set_freeze(preset)
    counts = _count(model)
    total, trainable = sum(c.total for c in counts), sum(c.trainable for c in counts)
    return {
        "preset": preset,
        "total": total,
        "trainable": trainable,
        "frozen": total - trainable,
        "percentage": 100.0 * trainable / total,
        "trainable_bytes": sum(c.total_bytes for c in counts if c.trainable),
        "trains": ", ".join(c.name for c in counts if c.trainable),
    }
