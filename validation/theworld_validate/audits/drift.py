"""Drift: which components a training changed, by how much, in how many elements; a frozen one may not have moved.

In: a checkpoint, and what was trained from it. Out: one check, with a row for each component. Values are compared as
they are stored, element by element; rows that only one has of a table of embeddings are counted apart.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.results import CheckResult, Finding, InputError, Scalar, Status

if TYPE_CHECKING:
    import torch

_DRAWN = ("world_projection", "temporal_embedding")  # at random, where a branch is new
_PIECE = 1 << 22  # elements that are compared at a time: in float64, a table of embeddings would take gigabytes
_UNKNOWN = "it is not known what was to train: the checkpoint notes no freeze stage; name it with --trains"


@dataclass(slots=True, kw_only=True)
class Drift:
    """What became of one component.

    Args:
        is_trained: whether it was to train.
        tensors, elements: that both checkpoints have.
        changed_tensors, changed_elements: of these; a NaN in both is no change.
        added_elements, removed_elements: rows of tables that only one of the two has.
        largest_change: of one element, absolute; in float64.
        relative_change: the norm of all changes over the norm of the base.
        first: the first tensor that changed.
        not_compared: tensors that the base has not, or has in another shape.
        lost: tensors that only the base has.
    """

    is_trained: bool
    tensors: int = 0
    elements: int = 0
    changed_tensors: int = 0
    changed_elements: int = 0
    added_elements: int = 0
    removed_elements: int = 0
    largest_change: float = 0.0
    relative_change: float = 0.0
    first: str | None = None
    not_compared: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def check_drift(
    base: str,
    trained: str,
    *,
    cosmos: str | None = None,
    trains: Sequence[str] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> CheckResult:
    """Compare what was trained with what it was trained from.

    Args:
        base: a Gemma 3 or TheWorld checkpoint.
        trained: a TheWorld checkpoint, whole or trainable-only.
        cosmos: where the base's VAE is, if the base has no branch.
        trains: components, or one freeze preset, that were to train since; as `trained` notes it if none is named.

    Raises:
        InputError: if one cannot be loaded, or no component has such a name.
    """
    started = time.perf_counter()
    meant = _components_of(trains)
    progress(f"loading {base}")
    ours, _ = _load(base, cosmos=cosmos)
    progress(f"loading {trained}")
    theirs, noted = _load(trained, cosmos=None)
    if meant is None and noted is not None:
        meant = frozenset(noted)
    progress("comparing")
    drifts = {
        name: _compare(ours.get(name, {}), theirs.get(name, {}), is_trained=name in (meant or ()))
        for name in {**theirs, **ours}
    }
    findings = [] if meant is None else [f for name, drift in drifts.items() for f in _findings(name, drift)]
    status, reason = _decide(drifts, findings, is_known=meant is not None)
    return CheckResult(
        id="drift",
        status=status,
        reason=reason,
        seconds=time.perf_counter() - started,
        measurements={
            "changed_components": sum(bool(drift.changed_elements) for drift in drifts.values()),
            "tensors_compared": sum(drift.tensors for drift in drifts.values()),
            "components": [{**_row(name, drift)} for name, drift in drifts.items()],
        },
        findings=tuple(findings),
    )


def _components_of(names: Sequence[str]) -> frozenset[str] | None:
    """The components that the user named, or a preset's; None if nothing was named."""
    from theworld.components import COMPONENT_NAMES
    from theworld.freezing import PRESETS

    if len(names) == 1 and names[0] in PRESETS:
        return frozenset(PRESETS[names[0]].trainable)
    for name in names:
        if name not in COMPONENT_NAMES:
            known = (*COMPONENT_NAMES, *PRESETS)
            raise InputError(f"--trains {name}: no such component or preset{did_you_mean(name, known)}")
    return frozenset(names) or None


def _load(checkpoint: str, *, cosmos: str | None) -> tuple[Mapping[str, Mapping[str, "torch.Tensor"]], Any]:
    """A checkpoint's parameters by component, in the dtype that they are stored in, and what it notes as trainable.

    Of a branch that the checkpoint itself has not, only the VAE is taken: the rest is drawn when it is loaded.
    """
    from theworld import TheWorld, TheWorldConfig
    from theworld.checkpoints.error_text import one_line, summary
    from theworld.components import parameters_by_component
    from theworld_validate.subjects.checkpoints import local_folder

    local_folder(checkpoint)
    arguments = {} if cosmos is None else {"cosmos_model_name_or_path": cosmos}
    try:
        own = TheWorldConfig.from_pretrained(checkpoint)
        model = TheWorld.from_pretrained(checkpoint, dtype="auto", **arguments)
    except (OSError, ValueError, ImportError) as error:
        folder = one_line(checkpoint)
        raise InputError(f"{folder}: it cannot be loaded: {summary(error).removeprefix(f'{folder}: ')}") from error
    parts: dict[str, Mapping[str, torch.Tensor]] = dict(parameters_by_component(model))
    if own.world_config is None:
        parts = {name: part for name, part in parts.items() if name not in _DRAWN}
    return parts, own.trainable_components


def _compare(base: Mapping[str, "torch.Tensor"], trained: Mapping[str, "torch.Tensor"], *, is_trained: bool) -> Drift:
    drift = Drift(is_trained=is_trained, lost=tuple(name for name in base if name not in trained))
    missing = []
    of_base, of_changes = 0.0, 0.0
    for name, theirs in trained.items():
        ours = base.get(name)
        if ours is None or ours.shape[1:] != theirs.shape[1:] or ours.ndim != theirs.ndim or not ours.ndim:
            missing.append(name)
            continue
        rows = min(len(ours), len(theirs))
        drift.added_elements += theirs[rows:].numel()
        drift.removed_elements += ours[rows:].numel()
        drift.tensors += 1
        num_changed = 0
        pieces = (tensor[:rows].detach().flatten().split(_PIECE) for tensor in (ours, theirs))
        for stored, stored_after in zip(*pieces, strict=True):
            before, after = stored.double(), stored_after.double()
            drift.elements += before.numel()
            of_base += float(before.square().nansum())
            change = (after - before)[(before != after) & ~(before.isnan() & after.isnan())]
            if change.numel():
                num_changed += change.numel()
                change = change.abs().nan_to_num(nan=float("inf"))
                drift.largest_change = max(drift.largest_change, float(change.max()))
                of_changes += float(change.square().sum())
        if num_changed:
            drift.first = drift.first or name
            drift.changed_tensors += 1
            drift.changed_elements += num_changed
    if of_base:
        drift.relative_change = (of_changes / of_base) ** 0.5
    drift.not_compared = tuple(missing)
    return drift


def _findings(name: str, drift: Drift) -> list[Finding]:
    if drift.is_trained:
        if drift.changed_elements or not drift.elements:
            return []
        return [
            Finding(
                code="drift.nothing_moved",
                severity="warning",
                location=name,
                message=f"{name} was to train, and not one of its {drift.elements:,} elements changed",
                cause=f"its learning rate did not arrive, no gradient reached it{_why_none(name)}, or both are one",
                remedy="look at theworld-validate gradients, and at the learning rates in the training's log",
            )
        ]
    if drift.first is None:
        return []
    return [
        Finding(
            code="drift.frozen_moved",
            location=drift.first,
            message=f"{drift.first}: {name} was frozen, and {drift.changed_elements:,} of its {drift.elements:,} "
            f"elements changed, in {drift.changed_tensors} of {drift.tensors} tensors",
            expected=0,
            actual=drift.changed_elements,
            cause="it was trained, cast and saved, or loaded from another checkpoint than this base",
            remedy="train from this base with it frozen; where a stage trained it, say so with --trains",
        )
    ]


def _why_none(name: str) -> str:
    """What gives a component no gradient though nothing is broken."""
    if name in ("vision_tower", "multi_modal_projector"):
        return " (the samples hold no picture: a clip does not go through it)"
    return "" if name == "language_model" else " (the samples hold no clip)"


def _decide(drifts: Mapping[str, Drift], findings: Sequence[Finding], *, is_known: bool) -> tuple[Status, str | None]:
    if any(finding.severity == "error" for finding in findings):
        return Status.FAILED, None
    if not is_known:
        return Status.INCONCLUSIVE, _UNKNOWN
    lost = [name for name, drift in drifts.items() if drift.lost]
    if lost:
        return Status.INCONCLUSIVE, f"{drifts[lost[0]].lost[0]} of the base is not there any more"
    lacking = [name for name, drift in drifts.items() if not drift.is_trained and drift.not_compared]
    if lacking:
        hint = "; name the base's with --cosmos" if lacking[0].startswith("vae_") else ""
        return Status.INCONCLUSIVE, f"the base has nothing to hold {lacking[0]} against{hint}"
    if not any(drift.tensors for drift in drifts.values()):
        return Status.INCONCLUSIVE, "nothing was compared"
    return Status.PASSED, None


def _row(name: str, drift: Drift) -> dict[str, Scalar]:
    finite = drift.largest_change < float("inf")
    return {
        "component": name,
        "trained": drift.is_trained,
        "tensors": drift.tensors,
        "changed_tensors": drift.changed_tensors,
        "elements": drift.elements,
        "changed_elements": drift.changed_elements,
        "added_elements": drift.added_elements,
        "removed_elements": drift.removed_elements,
        "largest_change": drift.largest_change if finite else None,
        "relative_change": drift.relative_change if finite else None,
        "not_compared": len(drift.not_compared),
        "lost": len(drift.lost),
    }
