"""Float32 master weights for what trains; what is frozen keeps its dtype.

In: a model whose freeze is set. Out: the same model, its trainable parameters in float32, to be run under autocast.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def use_master_weights(model: "nn.Module") -> int:
    """Cast every trainable parameter to float32, in place; return how many bytes that added.

    Run forward under `torch.autocast(device_type, torch.bfloat16)`, as Accelerate's `mixed_precision="bf16"` does.
    Buffers are left alone, and ties stay ties.
    """
    added = 0
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            added += parameter.numel() * (torch.float32.itemsize - parameter.element_size())
            parameter.data = parameter.data.float()
    return added
