"""What one question to a model is: inputs, and what else is asked about them.

In: nothing. Out: `Probe`, its rows, and choosing some of many by name. Nothing here knows a model family or torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.results import InputError

# Of the family of Gemma 3, in the order in which they are asked.
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
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")  # (B, L), where they are asked
IGNORED_LABEL = -100  # what losses leave out


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to a model.

    Args:
        name: stable; part of a check's id.
        inputs: arguments of the forward by name, such as input_ids, attention_mask, token_type_ids (B, L) int64 and
            pixel_values (I, 3, S, S) float32; what is floating point is given in the model's dtype.
        labels: what the loss is of, as the forward takes it; None where it takes none.
        use_cache: whether the forward is asked for its KV cache, where it is no loss's; None where it takes no such
            argument.
        images_per_row: how many of the images belong to each row, in order.
        gradients: whether gradients may be taken on it though it has no image.
        decode_steps: how many of the last tokens are fed one at a time, through the KV cache.
        extras: what else is asked about the same inputs.
        generation: in which ways the prompt is continued.
    """

    name: str
    inputs: Inputs
    labels: np.ndarray | None = None
    use_cache: bool | None = True
    images_per_row: tuple[int, ...] = ()
    gradients: bool = False
    decode_steps: int = 0
    extras: tuple[Extra, ...] = ()
    generation: tuple[Generation, ...] = ()

    @property
    def num_rows(self) -> int:
        """How many prompts it holds."""
        return len(next(iter(self.inputs.values())))

    @property
    def per_token(self) -> tuple[str, ...]:
        """Its inputs that have one value a token."""
        return tuple(name for name in PER_TOKEN if name in self.inputs)

    @property
    def num_tokens(self) -> int:
        """How many tokens its rows have, padding included; 0 where there are none."""
        return self.inputs["input_ids"].size if "input_ids" in self.inputs else 0

    def row(self, index: int) -> Inputs:
        """One row alone: without its padding, and with its own images only."""
        is_token = self.inputs["attention_mask"][index] == 1
        row: Inputs = {name: self.inputs[name][index : index + 1, is_token] for name in self.per_token}
        first = sum(self.images_per_row[:index])
        row |= {name: self.inputs[name][index : index + 1] for name in self.inputs if name.startswith("decoder_")}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientProbes:
    """What is asked of the backward pass.

    Args:
        whole: what every parameter's gradient is taken on.
        text: the same for a prompt without an image, where `whole` has one; None where it has none, or no prompt is.
        embeds: a prompt whose embeddings are given, and get a gradient; None where none is asked for.
    """

    whole: Probe
    text: Probe | None = None
    embeds: Probe | None = None


def gradient_probes(probes: Sequence[Probe]) -> GradientProbes | None:
    """Choose what gradients are taken on, of the shortest prompts that tell it; None where none may be taken."""
    whole = gradient_probe(probes)
    if whole is None:
        return None
    texts = [probe for probe in probes if _is_text_with_labels(probe)]
    texts.sort(key=lambda probe: probe.num_tokens)
    has_image = "pixel_values" in whole.inputs
    embeds = [probe for probe in texts if "embeds" in probe.extras]
    return GradientProbes(
        whole=whole,
        text=texts[0] if texts and has_image else None,
        embeds=embeds[0] if embeds else None,
    )


def _is_text_with_labels(probe: Probe) -> bool:
    return (
        "input_ids" in probe.inputs
        and "pixel_values" not in probe.inputs
        and probe.labels is not None
        and not probe.decode_steps
    )


def gradient_probe(probes: Sequence[Probe]) -> Probe | None:
    """The probe that gradients are taken on: the last with an image, which has padding and text rows too.

    Where none has one, the last of those that say so.
    """
    with_image = [probe for probe in probes if "pixel_values" in probe.inputs]
    chosen = with_image or [probe for probe in probes if probe.gradients]
    return chosen[-1] if chosen else None
