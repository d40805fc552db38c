"""The claims of the first implementation notes, each measured here and now: holds, explained, refuted, or needs a GPU.

In: evidence that other checks gathered. Out: one check for each group of claims, with the notes' own words beside each
verdict. A refuted claim is a warning, which the forms show as the notes' own, for the notes are not the product; a
verdict other than the one that this release records is a failure.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from theworld_validate.audits.claims_evidence import (
    EXPLAINED,
    HOLDS,
    NEEDS_GPU,
    REFUTED,
    Evidence,
    Measured,
    judge,
    statement,
)
from theworld_validate.audits.claims_file import Claim, as_documented_count, read_claims
from theworld_validate.audits.claims_on_training import ON_TRAINING
from theworld_validate.audits.explanation import explain
from theworld_validate.results import CheckResult, Finding, Status

# The preset "documented" trains these: what the notes' freezing left out.
_FORGOTTEN = ("multi_modal_projector", "vae_quant_conv", "vae_post_quant_conv", "vae_decoder", "world_projection")


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
                "unit": claim.unit,
                "lines": ", ".join(map(str, claim.line)),
                "says": claim.says,
                "quote": claim.quote,
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
    says = f'the notes say: {claim.says} (line {claim.line[0]}: "{claim.quotes[0]}")'
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
    words = "the notes' freezing left the projector and the VAE's rest trainable, and they have no temporal embedding"
    return judge(claim, measured, theirs, words)


def _cosmos_parameters(claim: Claim, evidence: Evidence) -> Measured:
    vae = sum(count for name, count in evidence.ledger.items() if name.startswith("vae_"))
    return judge(claim, vae, words="only Cosmos's VAE is part of the counted model, not its diffusion model")


def _bit_identity(_claim: Claim, evidence: Evidence) -> Measured:
    return statement(evidence.parity is Status.PASSED, f"parity {evidence.parity}")


def _same_weights(_claim: Claim, evidence: Evidence) -> Measured:
    facts = evidence.facts
    return statement(
        facts.rebuilt_weights_equal and facts.rebuilt_max_logit_difference > 0,
        f"logits differ by up to {facts.rebuilt_max_logit_difference:.2g}",
    )


MEASURES: dict[str, Callable[[Claim, Evidence], Measured]] = {
    "count": _count,
    "preset": _preset,
    "cosmos_parameters": _cosmos_parameters,
    "bit_identity": _bit_identity,
    "same_weights_other_outputs": _same_weights,
    "inv_freq_kept": lambda claim, e: statement(e.facts.loaded_inv_freq == "float32", e.facts.loaded_inv_freq),
    "buffers_not_in_state_dict": lambda claim, e: statement(
        e.facts.state_dict_buffers == 0, f"{e.facts.state_dict_buffers} rotary buffers in it"
    ),
    "init_in_float32": lambda claim, e: statement(e.facts.constructed == "float32", e.facts.constructed),
    "lm_head_tied": lambda claim, e: statement(e.facts.head_is_tied, "tied" if e.facts.head_is_tied else "not tied"),
    "image_tokens": lambda claim, e: judge(claim, e.config.mm_tokens_per_image),
    "latent_channels": lambda claim, e: judge(claim, e.config.world_config.vae_config.get("z_dim")),
    "hidden_size": lambda claim, e: judge(claim, e.config.text_config.hidden_size),
    **ON_TRAINING,
}
