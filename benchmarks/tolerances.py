"""What people compare logits by: four distances, each with the threshold that its users publish.

In: the logits of two models for the same prompts. Out: a number for each distance; larger is more different, and
`MOST` is what no threshold lets pass (another shape, a number that is not finite on one side only).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

MOST = 1e12
_ATOL, _RTOL = 1e-5, 1.3e-6  # torch.testing.assert_close, float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """One distance, and up to where its users call two models the same.

    Args:
        name: in the tables.
        usual: the published threshold; what is greater is told apart.
        source: where it is published.
    """

    name: str
    usual: float
    source: str


TOLERANCES: dict[str, Tolerance] = {
    "assert_close": Tolerance(
        name="`torch.testing.assert_close`",
        usual=1.0,
        source="torch's default for float32: 1.3e-6 relative + 1e-5, here the unit",
    ),
    "cosine": Tolerance(
        name="cosine similarity",
        usual=1 - 0.98,
        source="Megatron-Bridge, examples/conversion/compare_hf_and_megatron/compare.py: SIMILARITY_THRESHOLD = 0.98",
    ),
    "kl": Tolerance(
        name="KL divergence of the next token, the worst position",
        usual=0.015,
        source="MaxText, the commands that call tests/utils/forward_pass_logit_checker.py: --max_kl_div=0.015",
    ),
    "argmax": Tolerance(
        name="argmax agreement",
        usual=0.0,
        source="every position, as a comparison of greedy tokens asks",
    ),
}


def distances_between(expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor]) -> dict[str, float]:
    """The greatest distance of each kind over all prompts.

    Args:
        expected, actual: for each prompt (N, V) logits of its tokens, without padding.
    """
    worst = dict.fromkeys(TOLERANCES, 0.0)
    for one, other in zip(expected, actual, strict=True):
        found = _distances(one, other) if one.shape == other.shape else dict.fromkeys(TOLERANCES, MOST)
        worst = {name: max(worst[name], _bounded(found[name])) for name in worst}
    return worst


def _bounded(value: float) -> float:
    return MOST if math.isnan(value) else min(value, MOST)


def _distances(expected: torch.Tensor, actual: torch.Tensor) -> dict[str, float]:
    if torch.equal(expected, actual):
        return dict.fromkeys(TOLERANCES, 0.0)
    a, b = expected.double(), actual.double()
    if not torch.equal(a.isfinite(), b.isfinite()):
        return dict.fromkeys(TOLERANCES, MOST)
    log_a, log_b = a.log_softmax(-1), b.log_softmax(-1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)
    return {
        "assert_close": float(((a - b).abs() / (_ATOL + _RTOL * a.abs())).max()),
        "cosine": float((1 - cosine).max().clamp(min=0)),
        "kl": float((log_a.exp() * (log_a - log_b)).sum(-1).max().clamp(min=0)),
        "argmax": float((a.argmax(-1) != b.argmax(-1)).double().mean()),
    }
