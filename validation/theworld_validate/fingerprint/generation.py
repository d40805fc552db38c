"""Generation: greedily, sampled, by beams, and greedily with a preallocated cache.

In: a loaded model, a probe and a way. Out: `Generated`: answers, and what greedy steps chose by. The model's own
generation config is not changed, and what `generate` leaves on the model is taken off again: the next call's cache
would have its length. Of beams the best is set back at each step, so that they change places whatever the model: only
then does the order of their caches matter.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from theworld_validate.documents.choices import NUM_BEST, Choice
from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.compiled import without_wrapper
from theworld_validate.fingerprint.forward import NONE, Answers, to_tensors
from theworld_validate.fingerprint.global_state import observe_globals
from theworld_validate.probes.gemma3 import NEW_TOKENS
from theworld_validate.probes.probe import Generation, Probe

NUM_BEAMS = 3
_SET_BACK = 5.0  # the best beam, in log-probability: more than beams of one prompt are apart
_LEFT_BEHIND = "_previous_max_cache_length"  # by transformers, for the next call's static cache
_ALWAYS = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
_GREEDY = {
    "do_sample": False,
    "top_k": None,
    "top_p": None,
    "return_dict_in_generate": True,
    "output_logits": True,
}
_GREEDY_WAYS = ("greedy", "static")
_OPTIONS: dict[Generation, dict[str, Any]] = {
    "greedy": _GREEDY,
    "sampled": {"do_sample": True, "top_k": 50, "top_p": 0.95},
    "beams": {**_GREEDY, "output_logits": False, "output_scores": True, "num_beams": NUM_BEAMS},
    # On CUDA `generate` would compile for such a cache.
    "static": {**_GREEDY, "cache_implementation": "static", "disable_compile": True},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What one way of generating gave.

    Args:
        answers: tokens, and the logits or scores behind them.
        choices: for each of the logits, what each row of the batch chose by them; of greedy generation, if asked for.
    """

    answers: Answers
    choices: dict[str, tuple[Choice, ...]] = field(default_factory=dict)


def generate(model: Any, probe: Probe, way: Generation, *, seed: int, with_choices: bool = False) -> Generated:
    """Generate `NEW_TOKENS` tokens in one way; tokens hardly ever move, so the logits behind them are answers too.

    Args:
        with_choices: also say what each greedy step chose by, which has the device wait at each.
    """
    import torch

    if not callable(getattr(model, "generate", None)):
        return Generated(answers={way: f"{NONE}: the model has no generate"})
    torch.manual_seed(seed)
    with torch.no_grad(), _as_before(model):
        asks_choices = with_choices and way in _GREEDY_WAYS
        more = {"logits_processor": _changing_places()} if way == "beams" else {}
        more |= {"output_scores": True} if asks_choices else {}
        made = model.generate(**to_tensors(probe, model), **_ALWAYS, **_OPTIONS[way], **more)
    if isinstance(made, torch.Tensor):
        return Generated(answers={way: made})
    answers: Answers = {way: made.sequences}
    answers.update({f"{way}_logits[{i}]": logits for i, logits in enumerate(made.logits or ())})
    if getattr(made, "sequences_scores", None) is not None:
        answers[f"{way}_scores"] = made.sequences_scores
    return Generated(answers=answers, choices=_choices(made, way) if asks_choices else {})


def _choices(made: Any, way: Generation) -> dict[str, tuple[Choice, ...]]:
    """What each step's rows chose by: scores after the processors, which keep a prompt from ending early, say."""
    steps = getattr(made, "scores", None) or ()
    chosen = made.sequences[:, made.sequences.shape[1] - len(steps) :].tolist()
    return {
        f"{way}_logits[{i}]": tuple(_choice(row, tokens[i]) for row, tokens in zip(scores, chosen, strict=True))
        for i, scores in enumerate(steps)
    }


def _choice(scores: Any, token: int) -> Choice:
    """Of (V,) scores the best, those that are equal in the order of their tokens."""
    import torch

    found = torch.topk(scores.float(), min(NUM_BEST, len(scores)))
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    finite = [(other, score) for other, score in pairs if math.isfinite(score)]
    return Choice(token=token, best=tuple(sorted(finite, key=lambda pair: (-pair[1], pair[0]))))


def _changing_places() -> Any:
    """What has beams change places: a random model's best beam would stay the best to the end."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class SetBestBack(LogitsProcessor):
        def __call__(self, _input_ids: Any, scores: Any) -> Any:
            scores = scores.clone()
            scores[::NUM_BEAMS] -= _SET_BACK
            return scores

    return LogitsProcessorList([SetBestBack()])


def observe_random_state(prefix: str) -> Section:
    """Observe torch's random state: a sampled token more or less, or a draw inside of a forward, moves it."""
    return {f"{prefix}{name}": seen for name, seen in observe_globals().items() if name.startswith("rng_state")}


@contextmanager
def _as_before(model: Any) -> Iterator[None]:
    attributes = vars(without_wrapper(model))
    before = attributes.pop(_LEFT_BEHIND, None)
    try:
        yield
    finally:
        attributes.pop(_LEFT_BEHIND, None)
        if before is not None:
            attributes[_LEFT_BEHIND] = before
