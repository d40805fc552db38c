"""What one question to a model is: inputs, and what else is asked about them.

In: nothing. Out: `Probe`, its rows, and choosing some of many by name. Nothing here knows a model family or torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.results import InputError

# Of the family gemma3, in the order in which they are asked.
PROBE_NAMES = (
    "text",
    "image",
    "two_images",
    "left_padded_batch",
    "right_padded_batch",
    "beyond_window",
    "cached_decode",
)

# What is asked beside the forward itself: the loss for a given number of targets, each row of a batch alone, the same
# prompt as embeddings, what else a caller may ask for (hidden states, a tuple, other positions), and the same once
# more with no hook on the model.
Extra = Literal["loss_by_count", "rows", "embeds", "arguments", "untraced"]
# Ways to generate: "static" is greedy with a preallocated cache.
Generation = Literal["greedy", "sampled", "beams", "static"]

Inputs = dict[str, np.ndarray]
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids")  # (B, L)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to a model.

    Args:
        name: stable; part of a check's id.
        inputs: input_ids, attention_mask, token_type_ids (B, L) int64; pixel_values (I, 3, S, S) float32.
        images_per_row: how many of the images belong to each row, in order.
        decode_steps: how many of the last tokens are fed one at a time, through the KV cache.
        extras: what else is asked about the same inputs.
        generation: in which ways the prompt is continued.
    """

    name: str
    inputs: Inputs
    images_per_row: tuple[int, ...] = ()
    decode_steps: int = 0
    extras: tuple[Extra, ...] = ()
    generation: tuple[Generation, ...] = ()

    @property
    def num_rows(self) -> int:
        """How many prompts it holds."""
        return len(self.inputs["input_ids"])

    def row(self, index: int) -> Inputs:
        """One row alone: without its padding, and with its own images only."""
        is_token = self.inputs["attention_mask"][index] == 1
        row: Inputs = {name: self.inputs[name][index : index + 1, is_token] for name in PER_TOKEN}
        first = sum(self.images_per_row[:index])
        if num_images := sum(self.images_per_row[index : index + 1]):
            row["pixel_values"] = self.inputs["pixel_values"][first : first + num_images]
        return row


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
