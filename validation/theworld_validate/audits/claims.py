"""The documented claims, each measured here and now: holds, explained, refuted, or needs a GPU.

In: evidence that other checks gathered. Out: one check for each group of claims. A refuted claim is a warning, for
the notes are not the product; a verdict other than the one that this release records is a failure.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from theworld_validate.audits.claims_file import Claim, as_documented_count, read_claims
from theworld_validate.audits.explanation import explain
from theworld_validate.audits.loading_facts import LoadingFacts
from theworld_validate.results import CheckResult, Finding, Status

HOLDS, EXPLAINED, REFUTED, NEEDS_GPU = "holds", "explained", "refuted", "needs a GPU"
_GB = 10**9
_NOT_IN_THE_NOTES = ("world_projection", "temporal_embedding")  # made there, and not loaded
# The preset "documented" trains these: what the notes' freezing left out.
_FORGOTTEN = ("multi_modal_projector", "vae_quant_conv", "vae_post_quant_conv", "vae_decoder", "world_projection")


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
        presets: preset -> total, trainable, frozen, percentage.
        predictors: parameters of what the notes' model loads and no training step uses: Cosmos's transformer and T5.
        parity: the verdict on the disabled branch.
        facts: what loading does.
        training: (preset, checkpointing) -> a measured step; empty without a GPU.
    """

    config: Any
    ledger: Mapping[str, int]
    presets: Mapping[str, Mapping[str, float]]
    predictors: Mapping[str, int]
    parity: Status
    facts: LoadingFacts
    training: Mapping[tuple[str, bool], Training]


Measured = tuple[str, Any, str | None]  # verdict, the measured value, in words


def check_claims(evidence: Evidence) -> tuple[CheckResult, ...]:
    """Measure every claim; one check a group."""
    groups: dict[str, list[tuple[Claim, Measured]]] = {}
    started = time.perf_counter()
    for claim in read_claims():
        groups.setdefault(claim.group, []).append((claim, MEASURES[claim.measure](claim, evidence)))
    contradictions = find_contradictions(read_claims())
    seconds = (time.perf_counter() - started) / len(groups)
    return tuple(_check_group(name, measured, contradictions, seconds) for name, measured in groups.items())


def _check_group(
    name: str, measured: Sequence[tuple[Claim, Measured]], contradictions: Mapping[str, str], seconds: float
) -> CheckResult:
    rows, findings = [], []
    counts = dict.fromkeys((HOLDS, EXPLAINED, REFUTED, NEEDS_GPU), 0)
    for claim, (verdict, value, words) in measured:
        counts[verdict] += 1
        other = contradictions.get(claim.id)
        rows.append(
            {
                "claim": claim.id.partition(".")[2],
                "verdict": verdict,
                "documented": _documented(claim),
                "measured": value,
                "lines": ", ".join(map(str, claim.line)),
                "says": claim.says,
                "explanation": words,
                "contradicts": other,
            }
        )
        if (finding := _finding(claim, verdict, value, words)) is not None:
            findings.append(finding)
    measurable = sum(counts.values()) - counts[NEEDS_GPU]
    status, reason = Status.PASSED, None
    if any(finding.severity == "error" for finding in findings):
        status = Status.FAILED
    elif not measurable:
        status, reason = Status.SKIPPED, f"{counts[NEEDS_GPU]} claims need a GPU"
    return CheckResult(
        id=f"claims.{name}",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements={**{key.replace(" ", "_"): num for key, num in counts.items()}, "claims": rows},
        findings=tuple(findings),
    )


def _documented(claim: Claim) -> str | None:
    if claim.low is None:
        return None
    if claim.high is None:
        return f"{claim.low:,} or more"
    return f"{claim.low:,}" if claim.low == claim.high else f"{claim.low:,} to {claim.high:,}"


def _finding(claim: Claim, verdict: str, value: Any, words: str | None) -> Finding | None:
    changed = verdict not in (claim.recorded, NEEDS_GPU) and claim.recorded != NEEDS_GPU
    if not changed and verdict != REFUTED:
        return None
    says = f"line {claim.line[0]} says: {claim.says}"
    return Finding(
        code="claims.verdict_changed" if changed else "claims.refuted",
        severity="error" if changed else "warning",
        location=claim.id,
        message=f"{says}; measured {_in_words(value)}{f' ({words})' if words else ''}"
        + (f": {verdict}, and this release records {claim.recorded}" if changed else ": refuted"),
        expected=claim.recorded if changed else _documented(claim),
        actual=verdict if changed else value,
        cause="a library or this package changed what the claim is about" if changed else words,
        remedy="find what changed, and record the new verdict in claims.toml" if changed else None,
    )


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def find_contradictions(claims: Sequence[Claim]) -> dict[str, str]:
    """Claims that cannot both hold: claim -> the claim that it contradicts."""
    found: dict[str, str] = {}
    for one, other in combinations(claims, 2):
        if one.about is None or one.about != other.about:
            continue
        (low, high), (other_low, other_high) = _bounds(one), _bounds(other)
        if low > other_high or other_low > high:
            found.setdefault(one.id, other.id)
            found.setdefault(other.id, one.id)
    return found


def _bounds(claim: Claim) -> tuple[float, float]:
    low = float("-inf") if claim.low is None else claim.low
    high = float("inf") if claim.high is None else claim.high
    if claim.measure == "hidden_size":  # what a linear layer with a bias from 16 channels would count
        return 17 * low, 17 * high
    return low, high


def _judge(claim: Claim, value: float | None, explained: float | None = None, words: str | None = None) -> Measured:
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


def _count(claim: Claim, evidence: Evidence) -> Measured:
    explanation = explain(as_documented_count(claim), evidence.ledger)
    verdict = {"equal": HOLDS, "explained": EXPLAINED, "different": REFUTED}[explanation.verdict]
    return verdict, explanation.measured, f"it is {explanation.words}" if verdict == EXPLAINED else None


def _preset(claim: Claim, evidence: Evidence) -> Measured:
    """A preset's count; explained if the notes' own freezing gives it, which forgot four components."""
    field = claim.arguments["field"]
    measured = evidence.presets[claim.arguments["preset"]][field]
    forgotten = {*_FORGOTTEN, *claim.arguments.get("adds", ())}
    ledger = {name: count for name, count in evidence.ledger.items() if name != "temporal_embedding"}
    total, trainable = sum(ledger.values()), sum(ledger[name] for name in forgotten)
    theirs = {
        "total": total,
        "trainable": trainable,
        "frozen": total - trainable,
        "percentage": 100.0 * trainable / total,
    }[field]
    words = "their freezing left the projector and the VAE's rest trainable, and they have no temporal embedding"
    return _judge(claim, measured, theirs, words)


def _cosmos_parameters(claim: Claim, evidence: Evidence) -> Measured:
    vae = sum(count for name, count in evidence.ledger.items() if name.startswith("vae_"))
    return _judge(claim, vae, words="only Cosmos's VAE is part of the counted model, not its diffusion model")


def _statement(holds: bool, value: Any) -> Measured:
    return (HOLDS if holds else REFUTED), value, None


def _bit_identity(_claim: Claim, evidence: Evidence) -> Measured:
    return _statement(evidence.parity is Status.PASSED, f"parity {evidence.parity}")


def _same_weights(_claim: Claim, evidence: Evidence) -> Measured:
    facts = evidence.facts
    return _statement(
        facts.rebuilt_weights_equal and facts.rebuilt_max_logit_difference > 0,
        f"logits differ by up to {facts.rebuilt_max_logit_difference:.2g}",
    )


def _memory(claim: Claim, evidence: Evidence) -> Measured:
    step = evidence.training.get((claim.arguments["preset"], claim.arguments["checkpointing"]))
    if not claim.arguments.get("is_weights_loaded"):
        return _judge(claim, None if step is None else step.peak_bytes / _GB)
    loaded, words = _weights_loaded(evidence)
    if step is None:
        return NEEDS_GPU, None, words
    return _judge(claim, step.peak_bytes / _GB, loaded, words)


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
    return _judge(claim, (steps[0].peak_bytes - steps[1].peak_bytes) / _GB)


def _with_and_without(evidence: Evidence) -> tuple[Training, Training] | None:
    """A full step without checkpointing and with it."""
    steps = evidence.training.get(("full", False)), evidence.training.get(("full", True))
    return None if steps[0] is None or steps[1] is None else (steps[0], steps[1])


def _activation_ratio(claim: Claim, evidence: Evidence) -> Measured:
    steps = _with_and_without(evidence)
    return _judge(claim, None if steps is None else steps[0].activation_bytes / steps[1].activation_bytes)


def _step_slowdown(claim: Claim, evidence: Evidence) -> Measured:
    steps = _with_and_without(evidence)
    return _judge(claim, None if steps is None else 100.0 * (steps[1].step_seconds / steps[0].step_seconds - 1))


def _weights_saved(claim: Claim, _evidence: Evidence) -> Measured:
    import torch

    saved = 100.0 * (1 - torch.bfloat16.itemsize / torch.float32.itemsize)
    return _judge(claim, saved)


MEASURES: dict[str, Callable[[Claim, Evidence], Measured]] = {
    "count": _count,
    "preset": _preset,
    "cosmos_parameters": _cosmos_parameters,
    "bit_identity": _bit_identity,
    "same_weights_other_outputs": _same_weights,
    "inv_freq_kept": lambda claim, e: _statement(e.facts.loaded_inv_freq == "float32", e.facts.loaded_inv_freq),
    "buffers_not_in_state_dict": lambda claim, e: _statement(
        e.facts.state_dict_buffers == 0, f"{e.facts.state_dict_buffers} rotary buffers in it"
    ),
    "init_in_float32": lambda claim, e: _statement(e.facts.constructed == "float32", e.facts.constructed),
    "lm_head_tied": lambda claim, e: _statement(e.facts.head_is_tied, "tied" if e.facts.head_is_tied else "not tied"),
    "image_tokens": lambda claim, e: _judge(claim, e.config.mm_tokens_per_image),
    "latent_channels": lambda claim, e: _judge(claim, e.config.world_config.vae_config.get("z_dim")),
    "hidden_size": lambda claim, e: _judge(claim, e.config.text_config.hidden_size),
    "memory": _memory,
    "memory_added": _memory_added,
    "activation_ratio": _activation_ratio,
    "step_slowdown": _step_slowdown,
    "parameter_dtype": lambda claim, e: _statement(e.facts.loaded == "bfloat16", e.facts.loaded),
    "gradient_dtype": lambda claim, e: _statement(e.facts.gradients == "float32", e.facts.gradients),
    "weights_saved": _weights_saved,
}
