"""Faults of runtime and gradients: modes, hooks, globals, and paths that a gradient no longer takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import fault, rewrite_output, text_model
from theworld_validate.faults.needs import Need


@fault("runtime", "train mode", "modules", r"", Cause.MODE_FLAG, needs=())
def train_mode(model: Any) -> None:
    model.train()


@fault("runtime", "one module in train mode", "modules", r"layers\.5\.self_attn", Cause.MODE_FLAG)
def one_module_in_train_mode(model: Any) -> None:
    text_model(model).layers[5].self_attn.train()


@fault("runtime", "transformers #36684", "config", r"generation_config", Cause.CONFIG_VALUE, needs=(Need.GENERATION,))
def generation_config_not_carried(model: Any) -> None:
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0, bos_token_id=2)


@fault("runtime", "leftover forward hook", "modules", r"layers\.2$", Cause.HOOK)
def leftover_forward_hook(model: Any) -> None:
    text_model(model).layers[2].register_forward_hook(lambda *_: None)


@fault(
    "runtime",
    "transformers 5.17: enable then disable checkpointing",
    "modules",
    r"",
    Cause.HOOK,
    Cause.MODE_FLAG,
    needs=(Need.EMBEDDINGS,),
)
def leftover_checkpointing_hook(model: Any) -> None:
    model.enable_input_require_grads()


@fault("runtime", "checkpointing left on", "modules", r"", Cause.MODE_FLAG, Cause.HOOK, needs=(Need.CHECKPOINTING,))
def checkpointing_left_on(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True


@fault("runtime", "accelerate #3127, transformers #43019", "modules", r"layers\.1\.mlp", Cause.HOOK)
def device_hook(model: Any) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module

    add_hook_to_module(text_model(model).layers[1].mlp, ModelHook())


@fault("runtime", "monkey-patched forward", "modules", r"layers\.0\.mlp", Cause.METHOD_OVERRIDE)
def patched_forward(model: Any) -> None:
    mlp = text_model(model).layers[0].mlp
    original = mlp.forward

    def patched(x: torch.Tensor) -> torch.Tensor:
        return original(x)

    mlp.forward = patched


@contextmanager
def _autocast() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@fault("runtime", "leftover autocast", "globals", r"autocast", Cause.GLOBAL_FLAG, how="around", needs=())
def leftover_autocast() -> Any:
    return _autocast()


@contextmanager
def _restoring(set_it: Any, value: Any, before: Any) -> Iterator[None]:
    set_it(value)
    try:
        yield
    finally:
        set_it(before)


@fault("runtime", "an import reset grad mode", "globals", r"grad_enabled", Cause.GLOBAL_FLAG, how="around", needs=())
def grad_mode_reset() -> Any:
    return _restoring(torch.set_grad_enabled, False, True)


@fault("runtime", "default dtype changed", "globals", r"default_dtype", Cause.GLOBAL_FLAG, how="inject", needs=())
def default_dtype_changed(model: Any) -> None:  # noqa: ARG001
    torch.set_default_dtype(torch.float64)


@fault("runtime", "loading draws random numbers", "globals", r"rng_state", Cause.RNG_USE, needs=())
def random_draw_while_loading(model: Any) -> None:  # noqa: ARG001
    torch.rand(1)


@fault("gradients", "detached module", "gradients", r"layers\.3\.(mlp|pre_feed)", Cause.GRADIENT_PATH)
def detached_module(model: Any) -> None:
    rewrite_output(text_model(model).layers[3].mlp, lambda output: output.detach())


@fault("gradients", "scaled gradient", "gradients", r"layers\.7\.(mlp|pre_feed)", Cause.GRADIENT_PATH)
def scaled_gradient(model: Any) -> None:
    def doubled(output: torch.Tensor) -> torch.Tensor:
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient * 2)
        return output

    rewrite_output(text_model(model).layers[7].mlp, doubled)


@fault("gradients", "leftover gradient hook", "parameters", r"multi_modal_projector", Cause.HOOK)
def gradient_hook(model: Any) -> None:
    model.model.multi_modal_projector.mm_input_projection_weight.register_hook(lambda gradient: gradient * 0)
