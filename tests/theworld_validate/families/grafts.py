"""What people graft onto a model: adapters, and modules of their own around it."""

import warnings
from typing import Any

from torch import nn

from tests.theworld_validate.families.faulty import load


def _with_adapter(checkpoint: str, **arguments: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings(action="ignore"):  # PEFT asks transformers under a name that will go
        adapted = get_peft_model(load(checkpoint, **arguments), LoraConfig(r=2, target_modules=["q_proj"]))
    return adapted.eval()


def lora_zero(checkpoint: str, **arguments: Any) -> Any:
    """A fresh adapter: its second matrix is zero."""
    return _with_adapter(checkpoint, **arguments)


def lora_off(checkpoint: str, **arguments: Any) -> Any:
    """A trained adapter that is switched off."""
    adapted = _with_adapter(checkpoint, **arguments)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    adapted.base_model.disable_adapter_layers()
    return adapted


def lora_merged(checkpoint: str, **arguments: Any) -> Any:
    """A fresh adapter, merged into the weights: they are as they were."""
    return _with_adapter(checkpoint, **arguments).merge_and_unload()


class Holder(nn.Module):
    """A user's own module around a model."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.value = nn.Linear(2, 1)


def held(checkpoint: str, **arguments: Any) -> Holder:
    return Holder(load(checkpoint, **arguments)).eval()


def held_in_training(checkpoint: str, **arguments: Any) -> Holder:
    holder = held(checkpoint, **arguments)
    holder.lm.train()
    return holder
