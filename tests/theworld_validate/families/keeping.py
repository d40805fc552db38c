"""Candidates that keep something between calls which the reference does not keep, or forget what it keeps."""

from typing import Any

import torch

from tests.theworld_validate.families.faulty import load
from theworld_validate.faults.base import become, rewrite_output


def forgets_the_image(checkpoint: str, **arguments: Any) -> Any:
    """Positions of a text after an image no longer go by what the model kept of it."""
    model = load(checkpoint, **arguments)
    original = type(model.model)

    class Forgetful(original):
        def forward(self, *inputs: Any, **kwargs: Any) -> Any:
            if kwargs.get("past_key_values") is None:
                self.rope_deltas = None
            return super().forward(*inputs, **kwargs)

    become(model.model, Forgetful)
    return model


def keeps_the_last_output(checkpoint: str, **arguments: Any) -> Any:
    """An output goes by the one of the call before, as of a wrapper that smooths over calls."""
    model = load(checkpoint, **arguments)
    last: list[torch.Tensor] = []

    def smooth(output: Any) -> Any:
        if last:
            output = output + 1e-3 * last[0].mean()
        last[:] = [output.detach()]
        return output

    rewrite_output(model.get_output_embeddings(), smooth)
    return model
