"""The claims on training: what trains and in which precision, what it takes, and how long a step lasts.

In: a claim and the evidence. Out: its verdict. Peaks and times of real steps need a GPU; the rest does not.
"""

from collections.abc import Callable, Mapping
from typing import Any

from theworld_validate.audits.claims_evidence import (
    EXPLAINED,
    HOLDS,
    NEEDS_GPU,
    REFUTED,
    Evidence,
    Measured,
    Training,
    judge,
    statement,
)
from theworld_validate.audits.claims_file import Claim

_GB = 10**9
_NOT_IN_THE_NOTES = ("world_projection", "temporal_embedding")  # made there, and not loaded


def _memory(claim: Claim, evidence: Evidence) -> Measured:
    step = evidence.training.get((claim.arguments["preset"], claim.arguments["checkpointing"]))
    if not claim.arguments.get("is_weights_loaded"):
        return judge(claim, None if step is None else step.peak_bytes / _GB)
    loaded, words = _weights_loaded(evidence)
    if step is None:
        return NEEDS_GPU, None, words
    return judge(claim, step.peak_bytes / _GB, loaded, words)


def _weights_loaded(evidence: Evidence) -> tuple[float, str]:
    """The weights of everything that the notes' model loads, in GB at two bytes each, and in words."""
    own = sum(count for name, count in evidence.ledger.items() if name not in _NOT_IN_THE_NOTES)
    unused = sum(evidence.predictors.values())
    loaded, idle = (2 * count / _GB for count in (own + unused, unused))
    parts = ", ".join(f"{name} {count:,}" for name, count in evidence.predictors.items())
    return loaded, (
        f"the weights of everything that the notes' model loads are {loaded:.2f} GB in bfloat16, of which {idle:.2f} "
        f"({parts}) take no part in a training step"
    )


def _memory_added(claim: Claim, evidence: Evidence) -> Measured:
    steps = [evidence.training.get((preset, False)) for preset in (claim.arguments["preset"], "projection")]
    if steps[0] is None or steps[1] is None:
        return NEEDS_GPU, None, None
    return judge(claim, (steps[0].peak_bytes - steps[1].peak_bytes) / _GB)


def _with_and_without(evidence: Evidence) -> tuple[Training, Training] | None:
    """A full step without checkpointing and with it."""
    steps = evidence.training.get(("full", False)), evidence.training.get(("full", True))
    return None if steps[0] is None or steps[1] is None else (steps[0], steps[1])


def _activation_ratio(claim: Claim, evidence: Evidence) -> Measured:
    steps = _with_and_without(evidence)
    return judge(claim, None if steps is None else steps[0].activation_bytes / steps[1].activation_bytes)


def _step_slowdown(claim: Claim, evidence: Evidence) -> Measured:
    steps = _with_and_without(evidence)
    return judge(claim, None if steps is None else 100.0 * (steps[1].step_seconds / steps[0].step_seconds - 1))


def _step_order(_claim: Claim, evidence: Evidence) -> Measured:
    """Whether a step takes longer with vision than with the projection alone, and with the language model longest."""
    steps = [evidence.training.get((preset, False)) for preset in ("projection", "vision", "language")]
    seconds = [step.step_seconds for step in steps if step is not None]
    if len(seconds) < len(steps):
        return NEEDS_GPU, None, None
    return statement(seconds == sorted(seconds), ", ".join(f"{one:.3f} s" for one in seconds))


def _memory_of_part(claim: Claim, evidence: Evidence) -> Measured:
    """What training a part takes, of the bytes of all weights, in percent, everything in bfloat16."""
    import torch

    facts = evidence.training_facts
    bytes_each = facts.steps["bfloat16"].trainable_bytes / facts.trainable
    weights = torch.bfloat16.itemsize * sum(evidence.ledger.values())
    return judge(claim, 100.0 * bytes_each * evidence.ledger[claim.arguments["part"]] / weights)


def _gradient_dtype(_claim: Claim, evidence: Evidence) -> Measured:
    """Of the model as it is loaded; explained by the precision that keeps float32 weights where they train."""
    own, mixed = evidence.facts.gradients, evidence.training_facts.steps["mixed"].gradients
    if own == "float32":
        return HOLDS, own, None
    words = "gradients have the dtype of their weights: float32 in a stage with precision: mixed, whose weights are"
    return (EXPLAINED, own, words) if mixed == "float32" else (REFUTED, own, None)


def _memory_saved(claim: Claim, evidence: Evidence) -> Measured:
    """Of a whole step, everything unfrozen; explained by weights, gradients and optimizer states alone."""
    steps = evidence.training_facts.steps

    def saved(precision: str) -> float:
        return 100.0 * (1 - steps[precision].total_bytes / steps["float32"].total_bytes)

    states = 100.0 * (1 - steps["bfloat16"].trainable_bytes / steps["float32"].trainable_bytes)
    words = (
        f"weights, gradients and AdamW's states are {states:.1f} % smaller; activations keep float32 parts, "
        f"and float32 gradients, of precision: mixed, leave {saved('mixed'):.1f} %"
    )
    return judge(claim, saved("bfloat16"), states, words)


def _by_default(claim: Claim, evidence: Evidence, *, trains: bool) -> Measured:
    """Whether a part trains, or is frozen, where nobody says a word on it: in the model, and in a stage."""
    asked = evidence.training_facts.trains_by_default
    found = {who: claim.arguments["part"] in components for who, components in asked.items()}
    return statement(
        all(is_trained is trains for is_trained in found.values()),
        "; ".join(f"{who}: {'trains' if is_trained else 'frozen'}" for who, is_trained in found.items()),
    )


def _always_trains(claim: Claim, evidence: Evidence) -> Measured:
    without = [name for name, row in evidence.presets.items() if claim.arguments["part"] not in _parts(row)]
    return statement(not without, f"frozen in {', '.join(without)}" if without else "trains in every preset")


def _head_with_language(_claim: Claim, evidence: Evidence) -> Measured:
    """The head is the embedding, so it trains where the language model does."""
    trains = "language_model" in _parts(evidence.presets["language"])
    return statement(
        evidence.facts.head_is_tied and trains,
        f"the head is {'tied' if evidence.facts.head_is_tied else 'not tied'}, "
        f"the language model {'trains' if trains else 'is frozen'}",
    )


def _parts(row: Mapping[str, Any]) -> list[str]:
    return str(row["trains"]).split(", ")


def _checkpointing_key(_claim: Claim, evidence: Evidence) -> Measured:
    """Taken; or refused by a line that names the key that does it."""
    refusal = evidence.training_facts.refusal
    if refusal is None:
        return HOLDS, "taken", None
    return (EXPLAINED if "the key is gradient_checkpointing" in refusal else REFUTED), "refused", refusal


def _mixed_by_default(_claim: Claim, evidence: Evidence) -> Measured:
    precision = evidence.training_facts.precision_by_default
    return statement(precision == "mixed", f"a stage's precision is {precision}, if it does not say")


def _rank_share(claim: Claim, evidence: Evidence) -> Measured:
    return judge(claim, evidence.training_facts.rank_shares[claim.arguments["kind"]])


ON_TRAINING: dict[str, Callable[[Claim, Evidence], Measured]] = {
    "memory": _memory,
    "memory_added": _memory_added,
    "memory_of_part": _memory_of_part,
    "activation_ratio": _activation_ratio,
    "step_slowdown": _step_slowdown,
    "step_order": _step_order,
    "parameter_dtype": lambda claim, e: statement(e.facts.loaded == "bfloat16", e.facts.loaded),
    "gradient_dtype": _gradient_dtype,
    "memory_saved": _memory_saved,
    "frozen_by_default": lambda claim, e: _by_default(claim, e, trains=False),
    "trains_by_default": lambda claim, e: _by_default(claim, e, trains=True),
    "always_trains": _always_trains,
    "head_with_language": _head_with_language,
    "checkpointing_key": _checkpointing_key,
    "mixed_by_default": _mixed_by_default,
    "rank_share": _rank_share,
}
