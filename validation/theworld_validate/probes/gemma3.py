"""Gemma 3's probes. Token ids and pixels come from the config and a seed alone.

In: a Gemma 3 configuration. Out: inputs as numpy arrays, so that two processes, machines or releases ask exactly the
same; or an `InputError` that names the field that no probe can be built from. No tokenizer takes part: a probe
compares models, not processors.
"""

# B batch, L tokens, I images

from typing import Any, Literal

import numpy as np

from theworld_validate.probes.gemma3_fields import Fields, check_length
from theworld_validate.probes.probe import (
    IGNORED_LABEL,
    PROBE_NAMES,
    Extra,
    Generation,
    Inputs,
    Probe,
    choose_probes,
    gradient_probe,
)

__all__ = ["DECODE_STEPS", "NEW_TOKENS", "PROBE_NAMES", "Probe", "build_probes", "choose_probes", "gradient_probe"]

DECODE_STEPS = 8
NEW_TOKENS = 8
_FIRST_ORDINARY_ID = 256
_GREEDY: tuple[Generation, ...] = ("greedy",)  # sampling tells nothing more of other prompts: two are asked for it
_SAMPLED: tuple[Generation, ...] = (*_GREEDY, "sampled")
# Each costs as much as both of those: one probe each.
_STATIC: tuple[Generation, ...] = (*_SAMPLED, "static")
_BEAMS: tuple[Generation, ...] = (*_SAMPLED, "beams")


class _Row:
    """One row of ids in the making."""

    def __init__(self, fields: Fields, random: np.random.Generator) -> None:
        self._fields, self._random = fields, random
        self.ids: list[int] = [fields.bos]
        self.types: list[int] = [0]
        self.num_images = 0

    def text(self, length: int) -> "_Row":
        highest = self._fields.boi
        self._add(self._random.integers(min(_FIRST_ORDINARY_ID, highest // 2), highest, length).tolist(), 0)
        return self

    def image(self) -> "_Row":
        self._add([self._fields.boi], 0)
        self._add([self._fields.image_token] * self._fields.tokens_per_image, 1)
        self._add([self._fields.eoi], 0)
        self.num_images += 1
        return self

    def _add(self, ids: list[int], token_type: int) -> None:
        self.ids += ids
        self.types += [token_type] * len(ids)


class _Builder:
    """Draws rows and pixels from one random stream, in the order in which it is asked."""

    def __init__(self, fields: Fields, random: np.random.Generator) -> None:
        self._fields, self._random = fields, random

    def row(self) -> _Row:
        return _Row(self._fields, self._random)

    def probe(
        self,
        name: str,
        *rows: _Row,
        pad_on: Literal["left", "right"] = "left",
        decode_steps: int = 0,
        extras: tuple[Extra, ...] = (),
        generation: tuple[Generation, ...] = (),
    ) -> Probe:
        length = max(len(row.ids) for row in rows)

        def padded(values: list[int], filler: int) -> list[int]:
            padding = [filler] * (length - len(values))
            return padding + values if pad_on == "left" else values + padding

        inputs: Inputs = {
            "input_ids": np.array([padded(row.ids, self._fields.pad) for row in rows], dtype=np.int64),
            "attention_mask": np.array([padded([1] * len(row.ids), 0) for row in rows], dtype=np.int64),
            "token_type_ids": np.array([padded(row.types, 0) for row in rows], dtype=np.int64),
        }
        if num_images := sum(row.num_images for row in rows):
            side = self._fields.image_size
            inputs["pixel_values"] = self._random.uniform(-1, 1, (num_images, 3, side, side)).astype(np.float32)
        return Probe(
            name=name,
            inputs=inputs,
            labels=_labels_of(inputs),
            images_per_row=tuple(row.num_images for row in rows),
            decode_steps=decode_steps,
            extras=extras,
            generation=generation,
        )


def _labels_of(inputs: Inputs) -> np.ndarray:
    """Every text token as a target; left out are padding, image tokens, and what is predicted at padding: of that no
    two attentions give the same."""
    is_token = inputs["attention_mask"] == 1
    is_target = is_token & (inputs["token_type_ids"] == 0)
    is_target[:, 1:] &= is_token[:, :-1]
    return np.where(is_target, inputs["input_ids"], IGNORED_LABEL)


def build_probes(config: Any, *, seed: int = 0) -> tuple[Probe, ...]:
    """Build every probe for a Gemma 3 configuration.

    Args:
        config: a `Gemma3Config`.
        seed: of token ids and pixels.

    Raises:
        InputError: if a field is not what a probe can be built from, or would make one too long.
    """
    fields = Fields.read(config)
    window, per_image = fields.sliding_window, fields.tokens_per_image
    check_length(window + 256, "text_config.sliding_window", window)
    check_length(2 * per_image + 101, "mm_tokens_per_image", per_image)
    embeds: tuple[Extra, ...] = ("embeds",)
    one = _Builder(fields, np.random.Generator(np.random.PCG64(seed)))
    row, probe = one.row, one.probe
    built = [
        probe("text", row().text(255), extras=("loss_by_count", *embeds, "arguments"), generation=_STATIC),
        probe("image", row().text(63).image().text(64), extras=embeds, generation=_BEAMS),
        probe("two_images", row().text(32).image().text(32).image().text(32), generation=_GREEDY),
        probe(
            "left_padded_batch",
            *(row().text(128), row().text(32).image().text(16), row().text(9)),
            extras=("rows",),
            generation=_GREEDY,
        ),
        probe("beyond_window", row().text(window + 255), generation=_GREEDY),
        probe(
            "cached_decode",
            row().text(window + 2 * DECODE_STEPS),
            decode_steps=DECODE_STEPS,
            extras=("untraced",),  # the others' extras and generation run without hooks as it is
        ),
    ]
    # A stream of its own: probes that came later leave the others' ids as they were. Generation is not asked: a
    # prompt that ends in padding is not continued.
    other = _Builder(fields, np.random.Generator(np.random.PCG64([seed, 1])))
    rows = (other.row().text(24).image().text(40), other.row().text(112), other.row().text(11))
    built.append(other.probe("right_padded_batch", *rows, pad_on="right", extras=("rows",)))
    return tuple(sorted(built, key=lambda made: PROBE_NAMES.index(made.name)))
