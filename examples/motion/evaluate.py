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
from clips import FRAMES_A_VIEW, KINDS, SIDE, Pair
from dataset import make_pairs
from PIL import Image

from theworld import TheWorld
from theworld.processing_theworld import TheWorldProcessor

_PAIRS_A_BATCH = 16
_DRAWS = {"shuffled": 4}  # of each pair, since what is drawn is chance; other conditions draw nothing


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
IMAGES, GREEDY = "image path", "greedy"


def evaluate(model: Any, processor: Any, pairs: list[Pair], *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Paired accuracy: condition -> kind -> share of pairs with both answers right.

    The answer is the likelier first token of the pair's two; under "greedy", the first token that `generate` writes.
    """
    model.eval()
    table = {}
    with _encoded_once(model):
        for name, shown in CONDITIONS.items():
            rng = np.random.default_rng(seed)
            with _zeroed(model, only_if=name == "tokens zeroed"):
                table[name] = _by_kind(
                    pairs * _DRAWS.get(name, 1),
                    lambda some, shown=shown, rng=rng: _both_right(
                        choose(model, processor, some, [clip for pair in some for clip in shown(pair, rng)]), some
                    ),
                )
        table[IMAGES] = _by_kind(pairs, lambda some: _both_right(_choose_by_images(model, processor, some), some))
        table[GREEDY] = _by_kind(pairs, lambda some: _generate(model, processor, some))
    return table


def _by_kind(pairs: list[Pair], answer: Callable[[list[Pair]], list[bool]]) -> dict[str, float]:
    shares = {}
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        mine = [pair for pair in pairs if pair.kind == kind]
        right = [both for i in range(0, len(mine), _PAIRS_A_BATCH) for both in answer(mine[i : i + _PAIRS_A_BATCH])]
        shares[kind] = sum(right) / len(right)
    return shares


def choose(model: Any, processor: Any, pairs: list[Pair], clips: list[Any]) -> list[tuple[str, str]]:
    """What the model says to both prompts of each pair, out of the pair's two answers.

    Args:
        clips: two a pair; None for a prompt without a clip.
    """
    return _likelier(model, processor, pairs, _inputs(processor, pairs, clips))


def _choose_by_images(model: Any, processor: Any, pairs: list[Pair]) -> list[tuple[str, str]]:
    """The same, shown each clip's views in their order as pictures, through Gemma's own vision tower."""
    views = [[Image.fromarray(frame) for frame in clip[::FRAMES_A_VIEW]] for pair in pairs for clip in pair.clips]
    prompts = _prompts(processor, pairs, [[{"type": "image"}] * len(some) for some in views])
    inputs = processor(text=prompts, images=views, padding=True, padding_side="left", return_tensors="pt")
    return _likelier(model, processor, pairs, inputs)


def _likelier(model: Any, processor: Any, pairs: list[Pair], inputs: Any) -> list[tuple[str, str]]:
    with torch.no_grad():
        logits = model(**inputs, logits_to_keep=1).logits[:, -1].view(len(pairs), 2, -1)
    chosen = []
    for pair, two in zip(pairs, logits, strict=True):
        tokens = [_first_token(processor, answer) for answer in pair.answers]
        first, second = (pair.answers[int(one[tokens[1]] >= one[tokens[0]])] for one in two)
        chosen.append((first, second))
    return chosen


def _both_right(chosen: list[tuple[str, str]], pairs: list[Pair]) -> list[bool]:
    return [said == pair.answers for said, pair in zip(chosen, pairs, strict=True)]


def _generate(model: Any, processor: Any, pairs: list[Pair]) -> list[bool]:
    inputs = _inputs(processor, pairs, [clip for pair in pairs for clip in pair.clips])
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=1, do_sample=False)[:, -1].view(len(pairs), 2).tolist()
    expected = [[_first_token(processor, answer) for answer in pair.answers] for pair in pairs]
    return [one == other for one, other in zip(written, expected, strict=True)]


def _inputs(processor: Any, pairs: list[Pair], clips: list[Any]) -> Any:
    """Two prompts a pair, padded on the left."""
    prompts = _prompts(processor, pairs, [[] if clip is None else [{"type": "world"}] for clip in clips])
    frames = None if clips[0] is None else clips
    return processor(text=prompts, world_frames=frames, padding=True, padding_side="left", return_tensors="pt")


def _prompts(processor: Any, pairs: list[Pair], shown: list[list[dict[str, str]]]) -> list[str]:
    """The prompts of both clips of each pair: what is shown, and the question. The processor adds <bos> again."""
    prompts = []
    for number, items in enumerate(shown):
        message = {"role": "user", "content": [*items, {"type": "text", "text": pairs[number // 2].question}]}
        prompts.append(processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False))
    return [prompt.removeprefix(processor.tokenizer.bos_token) for prompt in prompts]


def _first_token(processor: Any, answer: str) -> int:
    return processor.tokenizer(answer, add_special_tokens=False)["input_ids"][0]


@contextmanager
def _encoded_once(model: Any) -> Iterator[None]:
    """Let the VAE encode each clip once, however many conditions show it."""
    encoder, known = model.model.world_encoder, {}
    original = encoder.forward

    def forward(frames: torch.Tensor) -> torch.Tensor:
        keys = [clip.numpy().tobytes() for clip in frames]
        unknown = {key: clip for key, clip in zip(keys, frames, strict=True) if key not in known}
        if unknown:
            known.update(zip(unknown, original(torch.stack(list(unknown.values()))), strict=True))
        return torch.stack([known[key] for key in keys])

    encoder.forward = forward
    try:
        yield
    finally:
        del encoder.forward


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


def load(checkpoint: Path) -> tuple[Any, Any]:
    """Load a checkpoint's model and processor."""
    model = TheWorld.from_pretrained(str(checkpoint), dtype=torch.float32)
    return model.eval(), TheWorldProcessor.from_pretrained(str(checkpoint))


def main() -> None:
    """Evaluate a checkpoint."""
    parser = argparse.ArgumentParser(description="Paired accuracy on unseen pairs, with the controls.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--pairs", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=SIDE, help="of a frame, in pixels, as in training")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pairs = make_pairs("test", options.pairs, options.seed, side=options.side)
    table = evaluate(*load(options.checkpoint), pairs, seed=options.seed)
    print(json.dumps(table, indent=2) if options.json else show(table))


if __name__ == "__main__":
    main()
