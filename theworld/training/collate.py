"""Samples to a batch: inputs of the model, and labels on the assistant's turns only.

In: `Sample`s. Out: what `TheWorld.forward` takes, on the CPU.
"""

# B batch, L tokens

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from theworld.levers.chunked_loss import IGNORED_LABEL
from theworld.rollout_config import RolloutConfig
from theworld.training.config import ConfigError
from theworld.training.data import Sample

_PROBE = "probe"


class Collator:
    """Renders, tokenises and masks a list of samples.

    Args:
        processor: a `TheWorldProcessor` with a chat template.
        num_world_steps, rollout: what the model is to predict after each clip, and how; nothing by default.

    Raises:
        ConfigError: if the template has no turn of the assistant's that can be told from the rest.
    """

    def __init__(self, processor: Any, *, num_world_steps: int = 0, rollout: RolloutConfig | None = None) -> None:
        self._processor = processor
        self._num_world_steps, self._rollout = num_world_steps, rollout
        self._header, self._end = _turn_marks(processor)

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a batch.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids`, `labels` (B, L), int64; `pixel_values`, `world_frames` and
            `world_num_frames` where a sample has some, and then `num_world_steps` and `rollout` if they were given.

        Raises:
            ValueError: if clips of one batch differ in size, or a turn is not found.
        """
        texts = [self._processor.apply_chat_template(list(sample.messages), tokenize=False) for sample in samples]
        images = [list(sample.images) for sample in samples] if any(s.images for s in samples) else None
        clips = [list(sample.clips) or None for sample in samples] if any(s.clips for s in samples) else None
        features = self._processor(
            text=texts,
            images=images,
            world_frames=clips,
            num_world_steps=self._num_world_steps if clips else 0,
            padding=True,
            padding_side="right",
            add_special_tokens=False,
            return_tensors="pt",
        )
        batch = dict(features)
        if "num_world_steps" in batch:
            batch["rollout"] = self._rollout
        batch["labels"] = self._labels(batch["input_ids"], samples)
        return batch

    def _labels(self, input_ids_BL: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """The assistant's tokens and the one that ends each turn; `IGNORED_LABEL` elsewhere."""
        labels_BL = torch.full_like(input_ids_BL, IGNORED_LABEL)
        for row, sample in enumerate(samples):
            ids = input_ids_BL[row].tolist()
            spans = list(self._turns(ids))
            expected = sum(message["role"] == "assistant" for message in sample.messages)
            if len(spans) != expected:
                raise ValueError(f"found {len(spans)} turns of the assistant's in a conversation that has {expected}")
            for start, stop in spans:
                labels_BL[row, start:stop] = input_ids_BL[row, start:stop]
        return labels_BL

    def _turns(self, ids: list[int]) -> Iterator[tuple[int, int]]:
        """Where the assistant's turns start, and stop behind the token that ends them."""
        for start in range(len(self._header), len(ids)):
            if ids[start - len(self._header) : start] == self._header and self._end in ids[start:]:
                yield start, ids.index(self._end, start) + 1


def _turn_marks(processor: Any) -> tuple[list[int], int]:
    """The tokens that the chat template writes before an assistant's turn, and the one that ends it."""
    question = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    answered = [*question, {"role": "assistant", "content": [{"type": "text", "text": _PROBE}]}]
    asked = processor.apply_chat_template(question, tokenize=False)
    opened = processor.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template(answered, tokenize=False)
    header, end = opened.removeprefix(asked), whole.removeprefix(opened + _PROBE)
    header_ids, end_ids = (processor.tokenizer.encode(t, add_special_tokens=False) for t in (header, end.strip()))
    if not header_ids or len(end_ids) != 1 or whole != opened + _PROBE + end:
        raise ConfigError("the chat template does not mark the assistant's turns; give a Gemma 3 chat template")
    return header_ids, end_ids[0]
