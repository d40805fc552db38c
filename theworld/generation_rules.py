"""What generation may not do where prompts hold clips: write a placeholder, or cut a prompt into chunks.

In: what `generate` was given. Out: a processor of scores, or an error.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList


class WorldTokenSuppressor(LogitsProcessor):
    """Keeps the world placeholder from being decoded: it stands for a clip's token, and a decoded one has no clip."""

    supports_continuous_batching = True

    def __init__(self, world_token_id: int) -> None:
        self.world_token_id = world_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Scores (B, V) of the next token, the placeholder's at minus infinity."""
        scores = scores.clone()
        # By a slice: a text-only assistant's vocabulary may end before it.
        scores[:, self.world_token_id : self.world_token_id + 1] = -torch.inf
        return scores


def with_suppressor(given: Any, world_token_id: int) -> LogitsProcessorList:
    """A caller's processors of scores, and the suppressor, once, last."""
    others = [processor for processor in given or () if not isinstance(processor, WorldTokenSuppressor)]
    return LogitsProcessorList([*others, WorldTokenSuppressor(world_token_id)])


def check_not_chunked(kwargs: Mapping[str, Any], given_config: Any, own_config: Any) -> None:
    """Refuse clips whose prompt would be cut into chunks, by whichever setting `generate` would heed.

    Args:
        kwargs: of `generate`.
        given_config, own_config: the generation config of the call, or None, and the model's own.

    Raises:
        ValueError: that names the setting.
    """
    if all(kwargs.get(name) is None for name in ("world_frames", "world_latents")):
        return
    name, chunk = "prefill_chunk_size", kwargs.get("prefill_chunk_size")
    if name not in kwargs:
        of_configs = (getattr(config, name, None) for config in (given_config, own_config))
        chunk = next((size for size in of_configs if size is not None), None)
    if chunk is not None:
        raise ValueError(f"world_frames fill a prompt as a whole; leave {name} out, or give {name}=None")
