"""How often both clips of a pair are answered rightly, and how often without seeing them in order.

In: a trained checkpoint, and how many unseen pairs of each kind. Out: a table on the screen, or JSON: paired accuracy
by kind, with the clips and under each control. Chance is 25 %: two answers, both right.
"""

# B prompts, L prompt length, D hidden size

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import KINDS, SIDE, Pair
from dataset import make_pairs, question_of

from theworld import TheWorld
from theworld.processing_theworld import TheWorldProcessor

_PAIRS_A_BATCH = 16


def _as_they_are(pair: Pair, rng: np.random.Generator) -> list[np.ndarray]:  # noqa: ARG001
    return list(pair.clips)


def _no_clip(pair: Pair, rng: np.random.Generator) -> list[None]:  # noqa: ARG001
    return [None, None]


def _last_frame(pair: Pair, rng: np.random.Generator) -> list[np.ndarray]:  # noqa: ARG001
    return [clip[-1:] for clip in pair.clips]


def _shuffled(pair: Pair, rng: np.random.Generator) -> list[np.ndarray]:
    """Frames in any order, but the last in its place; both clips hold the same ones, so nothing is left to see."""
    return [clip[[*rng.permutation(len(clip) - 1), -1]] for clip in pair.clips]


def _swapped(pair: Pair, rng: np.random.Generator) -> list[np.ndarray]:  # noqa: ARG001
    return list(pair.clips[::-1])


CONDITIONS: dict[str, Callable[[Pair, np.random.Generator], list[Any]]] = {
    "clips": _as_they_are,
    "text only": _no_clip,
    "one frame": _last_frame,
    "tokens zeroed": _as_they_are,
    "shuffled": _shuffled,
    "swapped": _swapped,
}


def evaluate(model: Any, processor: Any, pairs: list[Pair], *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Paired accuracy: condition -> kind -> share of pairs with both answers right.

    The answer is the likelier first token of the pair's two; under "greedy", the first token that `generate` writes.
    """
    model.eval()
    table = {}
    for name, shown in CONDITIONS.items():
        rng = np.random.default_rng(seed)
        with _zeroed(model, only_if=name == "tokens zeroed"):
            table[name] = _by_kind(
                pairs, lambda some, shown=shown, rng=rng: _choose(model, processor, some, shown, rng)
            )
    table["greedy"] = _by_kind(pairs, lambda some: _generate(model, processor, some))
    return table


def _by_kind(pairs: list[Pair], answer: Callable[[list[Pair]], list[bool]]) -> dict[str, float]:
    shares = {}
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        mine = [pair for pair in pairs if pair.kind == kind]
        right = [both for i in range(0, len(mine), _PAIRS_A_BATCH) for both in answer(mine[i : i + _PAIRS_A_BATCH])]
        shares[kind] = sum(right) / len(right)
    return shares


def _choose(model: Any, processor: Any, pairs: list[Pair], shown: Any, rng: np.random.Generator) -> list[bool]:
    inputs = _inputs(processor, pairs, [clip for pair in pairs for clip in shown(pair, rng)])
    with torch.no_grad():
        logits = model(**inputs, logits_to_keep=1).logits[:, -1].view(len(pairs), 2, -1)
    right = []
    for pair, two in zip(pairs, logits, strict=True):
        first, second = (_first_token(processor, answer) for answer in pair.answers)
        right.append(bool(two[0, first] > two[0, second]) and bool(two[1, second] > two[1, first]))
    return right


def _generate(model: Any, processor: Any, pairs: list[Pair]) -> list[bool]:
    inputs = _inputs(processor, pairs, [clip for pair in pairs for clip in pair.clips])
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=1, do_sample=False)[:, -1].view(len(pairs), 2).tolist()
    expected = [[_first_token(processor, answer) for answer in pair.answers] for pair in pairs]
    return [one == other for one, other in zip(written, expected, strict=True)]


def _inputs(processor: Any, pairs: list[Pair], clips: list[Any]) -> Any:
    """Two prompts a pair, padded on the left."""
    prompts = []
    for number, clip in enumerate(clips):
        message = question_of(pairs[number // 2], None if clip is None else "")
        prompts.append(processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False))
    without_bos = [prompt.removeprefix(processor.tokenizer.bos_token) for prompt in prompts]
    frames = None if clips[0] is None else clips
    return processor(text=without_bos, world_frames=frames, padding=True, padding_side="left", return_tensors="pt")


def _first_token(processor: Any, answer: str) -> int:
    return processor.tokenizer(answer, add_special_tokens=False)["input_ids"][0]


@contextmanager
def _zeroed(model: Any, *, only_if: bool) -> Iterator[None]:
    """Let every world token be zero."""
    if not only_if:
        yield
        return
    inner = model.model
    original = inner.get_world_features
    inner.get_world_features = lambda *args, **kwargs: torch.zeros_like(original(*args, **kwargs))
    try:
        yield
    finally:
        del inner.get_world_features


def show(table: dict[str, dict[str, float]]) -> str:
    """The table as text: a row a condition, in percent."""
    lines = [" " * 14 + "".join(f"{kind:>11}" for kind in KINDS) + f"{'all':>8}"]
    for name, shares in table.items():
        mean = sum(shares.values()) / len(shares)
        lines.append(f"{name:14}" + "".join(f"{shares[kind]:11.0%}" for kind in KINDS) + f"{mean:8.0%}")
    return "\n".join(lines)


def main() -> None:
    """Evaluate a checkpoint."""
    parser = argparse.ArgumentParser(description="Paired accuracy on unseen pairs, with the controls.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--pairs", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=SIDE, help="of a frame, in pixels, as in training")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = TheWorld.from_pretrained(str(options.checkpoint), dtype=torch.float32)
    processor = TheWorldProcessor.from_pretrained(str(options.checkpoint))
    pairs = make_pairs("test", options.pairs, options.seed, side=options.side)
    table = evaluate(model, processor, pairs, seed=options.seed)
    print(json.dumps(table, indent=2) if options.json else show(table))


if __name__ == "__main__":
    main()
