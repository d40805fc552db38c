"""What the first implementation notes' claims are held against, and how a measured value is judged.

In: a claim, the evidence, a measured value. Out: a verdict: holds, explained, refuted, or needs a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theworld_validate.audits.claims_file import Claim
from theworld_validate.audits.loading_facts import LoadingFacts
from theworld_validate.audits.training_facts import TrainingFacts
from theworld_validate.results import Status

HOLDS, EXPLAINED, REFUTED, NEEDS_GPU = "holds", "explained", "refuted", "needs a GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One measured training step.

    Args:
        peak_bytes: the most that was allocated on the GPU.
        activation_bytes: of it, activations.
        step_seconds: the step's time.
    """

    peak_bytes: int
    activation_bytes: int
    step_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the claims are held against.

    Args:
        config: a `TheWorldConfig` of the documented geometry.
        ledger: its parameters, part by part, without the temporal embedding.
        presets: preset -> total, trainable, frozen, percentage, trains (the components, in one text).
        predictors: parameters of what the notes' model loads and no training step uses: Cosmos's transformer and T5.
        parity: the verdict on the disabled branch.
        facts: what loading does.
        training_facts: what training does, on the tiny model.
        training: (preset, checkpointing) -> a measured step; empty without a GPU.
    """

    config: Any
    ledger: Mapping[str, int]
    presets: Mapping[str, Mapping[str, Any]]
    predictors: Mapping[str, int]
    parity: Status
    facts: LoadingFacts
    training_facts: TrainingFacts
    training: Mapping[tuple[str, bool], Training]


Measured = tuple[str, Any, str | None]  # verdict, the measured value, in words


def judge(claim: Claim, value: float | None, explained: float | None = None, words: str | None = None) -> Measured:
    """Compare a measured value with a claim; where it does not hold, the value that explains it."""
    if value is None:
        return NEEDS_GPU, None, None
    if _fits(claim, value):
        return HOLDS, value, None
    if explained is not None and _fits(claim, explained):
        return EXPLAINED, value, words
    return REFUTED, value, words if explained is None else None


def _fits(claim: Claim, value: float) -> bool:
    within = claim.arguments.get("within", 0)
    low, high = _range(claim)
    return low - within <= value <= high + within


def _range(claim: Claim) -> tuple[float, float]:
    return (
        float("-inf") if claim.low is None else claim.low,
        float("inf") if claim.high is None else claim.high,
    )


def statement(holds: bool, value: Any) -> Measured:
    """A claim without a figure: it holds, or it does not."""
    return (HOLDS if holds else REFUTED), value, None
