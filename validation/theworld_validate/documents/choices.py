"""The token that greedy generation chose, and the scores that it chose by, as documents carry them.

In: what `fingerprint.generation` saw at one step, row by row. Out: `Choice`, with which a token that parts from the
reference's can be judged: a tie that rounding turned, or another choice.
"""

import math
from dataclasses import dataclass

NUM_BEST = 5  # a token that rounding could choose is among the best few
_MAX_TOKEN = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One step of one row of a batch.

    Args:
        token: what was chosen.
        best: the `NUM_BEST` greatest scores after logits processors, (token, score), the greatest first; of equal
            ones the lesser token first, as argmax does; scores of minus infinity are left out.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    token: int
    best: tuple[tuple[int, float], ...]

    def score_of(self, token: int) -> float | None:
        """The score of a token; None if it is not among the best."""
        return next((score for known, score in self.best if known == token), None)

    @property
    def is_greatest(self) -> bool:
        """Whether no other score was greater than that of the chosen token."""
        return bool(self.best) and self.score_of(self.token) == self.best[0][1]


def why_no_choice(choice: Choice) -> str | None:
    """What is wrong with one from a file; None if nothing is."""
    tokens = [token for token, _ in choice.best]
    scores = [score for _, score in choice.best]
    if not all(0 <= token < _MAX_TOKEN for token in (choice.token, *tokens)):
        return "a token is no id"
    if len(set(tokens)) != len(tokens) or len(tokens) > NUM_BEST:
        return f"it has not up to {NUM_BEST} tokens, each once"
    if not all(map(math.isfinite, scores)) or scores != sorted(scores, reverse=True):
        return "its scores do not fall"
    return None
