"""Probes: what a subject is asked. Token ids and pixels come from the config and a seed alone.

In: a Gemma 3 configuration. Out: inputs as numpy arrays, so that two processes, machines or releases
ask exactly the same. No tokenizer takes part: a probe compares models, not processors.
"""

# B batch, L tokens, I images

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theworld_validate.results import InputError, did_you_mean

DECODE_STEPS = 8
NEW_TOKENS = 8
_FIRST_ORDINARY_ID = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to a model.

    Args:
        name: stable; part of a check's id.
        inputs: input_ids, attention_mask, token_type_ids (B, L) int64; pixel_values (I, 3, S, S) float32.
        decode_steps: how many of the last tokens are fed one at a time, through the KV cache.
    """

    name: str
    inputs: dict[str, np.ndarray]
    decode_steps: int = 0


class _Row:
    """One row of ids in the making."""

    def __init__(self, config: Any, random: np.random.Generator) -> None:
        self._config, self._random = config, random
        self.ids: list[int] = [config.text_config.bos_token_id]
        self.types: list[int] = [0]

    def text(self, length: int) -> "_Row":
        highest = self._config.boi_token_index
        self._add(self._random.integers(min(_FIRST_ORDINARY_ID, highest // 2), highest, length).tolist(), 0)
        return self

    def image(self) -> "_Row":
        config = self._config
        self._add([config.boi_token_index], 0)
        self._add([config.image_token_index] * config.mm_tokens_per_image, 1)
        self._add([config.eoi_token_index], 0)
        return self

    def _add(self, ids: list[int], token_type: int) -> None:
        self.ids += ids
        self.types += [token_type] * len(ids)


def build_probes(config: Any, *, seed: int = 0) -> tuple[Probe, ...]:
    """Build every probe for a Gemma 3 configuration.

    Args:
        config: a `Gemma3Config`.
        seed: of token ids and pixels.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    window = config.text_config.sliding_window

    def row() -> _Row:
        return _Row(config, random)

    def probe(name: str, *rows: _Row, num_images: int = 0, decode_steps: int = 0) -> Probe:
        length = max(len(r.ids) for r in rows)
        pad = config.text_config.pad_token_id
        inputs: dict[str, np.ndarray] = {
            "input_ids": np.array([[pad] * (length - len(r.ids)) + r.ids for r in rows], dtype=np.int64),
            "attention_mask": np.array([[0] * (length - len(r.ids)) + [1] * len(r.ids) for r in rows], dtype=np.int64),
            "token_type_ids": np.array([[0] * (length - len(r.ids)) + r.types for r in rows], dtype=np.int64),
        }
        if num_images:
            side = config.vision_config.image_size
            inputs["pixel_values"] = random.uniform(-1, 1, (num_images, 3, side, side)).astype(np.float32)
        return Probe(name=name, inputs=inputs, decode_steps=decode_steps)

    return (
        probe("text", row().text(255)),
        probe("image", row().text(63).image().text(64), num_images=1),
        probe("two_images", row().text(32).image().text(32).image().text(32), num_images=2),
        probe("left_padded_batch", row().text(128), row().text(32).image().text(16), row().text(9), num_images=1),
        probe("beyond_window", row().text(window + 255)),
        probe("cached_decode", row().text(window + 2 * DECODE_STEPS), decode_steps=DECODE_STEPS),
    )


def choose_probes(probes: Sequence[Probe], names: Sequence[str]) -> tuple[Probe, ...]:
    """The probes of these names; all if none is given.

    Raises:
        InputError: for a name that no probe has, with the closest that one has.
    """
    known = [probe.name for probe in probes]
    for name in names:
        if name not in known:
            raise InputError(f"--probe {name}: no such probe; there are {', '.join(known)}{did_you_mean(name, known)}")
    return tuple(probe for probe in probes if not names or probe.name in names)


def gradient_probe(probes: Sequence[Probe]) -> Probe | None:
    """The probe that gradients are taken on: the last with an image, which has padding and text rows too."""
    with_image = [probe for probe in probes if "pixel_values" in probe.inputs]
    return with_image[-1] if with_image else None
