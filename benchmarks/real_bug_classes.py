"""Classes that people write on top of transformers, which some of its releases load wrongly.

In: a config of Llama. Out: a model that gives what `LlamaForCausalLM` gives wherever it is loaded rightly. They are
loaded by releases from 4.48 on, and import nothing else.
"""

from typing import Any

import torch
from transformers import LlamaForCausalLM


class InitialisesInPlace(LlamaForCausalLM):
    """Draws its weights as models did before version 5: in place, without asking whether they were loaded."""

    def _init_weights(self, module: torch.nn.Module) -> None:
        if isinstance(module, torch.nn.Linear):
            module.weight.data.normal_(mean=0.0, std=0.02)


class HasUnsavedBuffer(LlamaForCausalLM):
    """Multiplies its hidden states with a constant buffer of ones, which no file holds."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("logit_scale", torch.ones(config.hidden_size), persistent=False)
        self.lm_head.register_forward_pre_hook(self._scale)

    def _scale(self, _: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0] * self.logit_scale,)
