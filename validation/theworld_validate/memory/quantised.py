"""Linear layers in 4 bit without data: what bitsandbytes' NF4 with double quantisation asks for, in its order.

In: a model on tensors without data. Out: its linear layers replaced by ones that hold and ask for the same storages as
`bitsandbytes.nn.Linear4bit` on CUDA; no value is right. bitsandbytes itself needs tensors with data: read in 0.50,
`functional.quantize_4bit`, `autograd._functions.MatMul4Bit`, `backends.cuda.ops._dequant_linear_fallback`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_BLOCK = 64  # weights that share a scale
_BLOCK_OF_SCALES = 256  # scales, of a byte each, that share a float32 one


class FourBitLinear(nn.Linear):
    """A frozen linear layer in 4 bit.

    Args:
        of: the layer in whose place it comes.
    """

    offset: torch.Tensor

    def __init__(self, of: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = of.in_features, of.out_features
        num_weights = of.weight.numel()
        self.num_scales = num_scales = -(-num_weights // _BLOCK)
        packed = torch.empty((num_weights + 1) // 2, 1, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)  # pyrefly: ignore[bad-assignment]
        self.bias = of.bias
        held = {
            "code": torch.empty(16),
            "offset": torch.empty(()),
            "absmax": torch.empty(num_scales, dtype=torch.uint8),
            "nested_code": torch.empty(256),
            "nested_absmax": torch.empty(-(-num_scales // _BLOCK_OF_SCALES)),
        }
        for name, tensor in held.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """(..., in_features) to (..., out_features), in the input's dtype."""
        return _FourBitProduct.apply(input, self)


class _FourBitProduct(torch.autograd.Function):
    """The product with dequantised weights, which are made anew in the backward pass; the input is not kept.

    For at most 1,536 rows bitsandbytes may take a kernel that dequantises within itself, by the layer's shape and the
    GPU; here the forward pass always has the weights, so that it can be too high by one layer's.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: FourBitLinear) -> torch.Tensor:
        ctx.layer = layer
        dequantised = torch.empty(layer.num_scales, dtype=torch.float32)
        scales = dequantised + layer.offset
        weight = torch.empty(layer.out_features, layer.in_features, dtype=x.dtype)
        made = nn.functional.linear(x, weight, layer.bias)
        del dequantised, scales
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,), layer = gradients, ctx.layer
        scales = torch.empty(layer.num_scales, dtype=torch.float32)
        weight = torch.empty(layer.out_features, layer.in_features, dtype=gradient.dtype)
        made = torch.matmul(gradient, weight)
        del scales
        return made, None


def quantise(model: Any, *, is_the_worlds: bool) -> dict[type, type]:
    """Put layers in 4 bit in the places of the linear ones that transformers would quantise.

    Returns:
        Class of these layers -> class of their LoRA layers, for `adapters.attach`.
    """
    from transformers.quantizers.quantizers_utils import should_convert_module

    if is_the_worlds:
        from theworld.loading import modules_left_unquantised

        skipped = modules_left_unquantised()
    else:
        from transformers.quantizers.base import get_keys_to_not_convert

        skipped = get_keys_to_not_convert(model)
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and should_convert_module(name, skipped):
            model.set_submodule(name, FourBitLinear(module))
    return {FourBitLinear: lora_of_four_bit()}


def lora_of_four_bit() -> type:
    """PEFT's LoRA layer around a layer in 4 bit, as `peft.tuners.lora.bnb.Linear4bit` computes it."""
    from peft.tuners.lora.layer import Linear

    class FourBitLora(Linear):
        def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            (name,) = self.active_adapters
            result = self.base_layer(x, *args, **kwargs)
            result = result.clone()
            dtype, is_cast = result.dtype, not torch.is_autocast_enabled("cpu")
            if is_cast:
                x = x.float()  # an adapter's dtype
            output = self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x))) * self.scaling[name]
            if is_cast:
                output = output.to(dtype)
            return result + output

    return FourBitLora


def tensors_beside(model: Any) -> Iterator[torch.Tensor]:
    """What bitsandbytes' layers in 4 bit hold beside their weights, where modules know nothing of it."""
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        for held in (state, getattr(state, "state2", None)):
            if held is not None:
                tensors = (held.absmax, held.code, held.offset)
                yield from (tensor for tensor in tensors if tensor is not None)
