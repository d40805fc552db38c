"""Faults of what loading leaves behind: other code in the process, modes, hooks, methods of instances, a cycle."""

from typing import Any

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import fault, set_while, text_model
from theworld_validate.faults.needs import Need

_MLP_FORWARD = "def forward(self, x):\n    return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))\n"


def _through(original: Any) -> Any:
    def patched(*inputs: Any, **named: Any) -> Any:
        return original(*inputs, **named)

    return patched


@fault("runtime", "code made by exec", "modules", r"Gemma3MLP\.forward", Cause.PATCHED_CODE, how="around")
def code_compiled_from_text() -> Any:
    from transformers.models.gemma3 import modeling_gemma3

    made: dict[str, Any] = {}
    exec(_MLP_FORWARD, {}, made)
    return set_while(modeling_gemma3.Gemma3MLP, "forward", made["forward"])


@fault("runtime", "patched torch", "modules", r"torch\.Tensor\.masked_scatter", Cause.PATCHED_CODE, how="around")
def tensor_method_patched() -> Any:
    return set_while(torch.Tensor, "masked_scatter", _through(torch.Tensor.masked_scatter))


@fault(
    "generation",
    "sampling options ignored",
    "modules",
    r"TemperatureLogitsWarper",
    Cause.PATCHED_CODE,
    how="around",
    needs=(Need.GENERATION,),
)
def temperature_ignored() -> Any:
    from transformers.generation.logits_process import TemperatureLogitsWarper

    return set_while(TemperatureLogitsWarper, "__call__", lambda _self, _input_ids, scores: scores)


@fault("runtime", "leftover global hook", "globals", r"global_backward_hooks", Cause.GLOBAL_HOOK, needs=())
def global_backward_hook(model: Any) -> None:  # noqa: ARG001
    torch.nn.modules.module.register_module_full_backward_hook(lambda *_: None)


@fault("runtime", "default device left set", "globals", r"default_device", Cause.GLOBAL_FLAG, needs=())
def default_device_left_on_meta(model: Any) -> None:  # noqa: ARG001
    torch.set_default_device("meta")


@fault("runtime", "anomaly detection left on", "globals", r"anomaly_mode", Cause.GLOBAL_FLAG, needs=())
def anomaly_mode_left_on(model: Any) -> None:  # noqa: ARG001
    torch.autograd.set_detect_anomaly(True)


@fault("runtime", "method put on a module", "modules", r"^model$", Cause.METHOD_OVERRIDE)
def method_of_an_instance(model: Any) -> None:
    model.model.get_image_features = _through(model.model.get_image_features)


@fault("runtime", "leftover hook of loading", "modules", r"layers\.2$", Cause.HOOK)
def load_state_dict_hook(model: Any) -> None:
    text_model(model).layers[2].register_load_state_dict_post_hook(lambda *_: None)


@fault("runtime", "a module that holds its owner", "modules", r"^model$", Cause.EXTRA_STATE)
def modules_in_a_cycle(model: Any) -> None:
    model.model.add_module("owner", model)
