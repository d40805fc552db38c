"""What people do to a model after loading it, and which may change its buffers.

In: a loaded model. Out: the model after the deed.
"""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformation:
    """One deed.

    Args:
        title: as one would type it.
        apply: takes a model; returns it, changed in place or new.
        why, remedy: what to say where it changes a buffer.
        why_not: says why it cannot be done on this machine; None if it can.
    """

    title: str
    apply: Callable[[Any], Any]
    why: str
    remedy: str
    why_not: Callable[[], str | None] = lambda: None


def _save_and_load(model: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="theworld-buffers-") as folder:
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, dtype=model.dtype, device_map={"": model.device})


def _there_and_back(model: Any) -> Any:
    home = model.device
    return model.to("cpu" if home.type == "cuda" else "cuda").to(home)


def _compile_and_run(model: Any) -> Any:
    import torch

    from theworld_validate.fingerprint.forward import to_tensors
    from theworld_validate.probes.registry import family_of

    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # a graph break is no news here
    # The compiler's own backend changes kernels, not buffers: tracing alone shows what it does to the modules.
    compiled: Any = torch.compile(model, backend="eager")
    inputs = {"input_ids": torch.tensor([[2, 3, 4, 5]], device=model.device)}
    if model.main_input_name != "input_ids" or model.config.is_encoder_decoder:
        inputs = to_tensors(family_of(model.config.model_type)(model.config, type(model)).build().probes[0], model)
    with torch.no_grad():
        compiled(**inputs)
    torch.compiler.reset()
    return compiled._orig_mod


def _no_cuda() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "this machine has no CUDA device to move to"


_DO_NOT_CAST = "pass dtype= to from_pretrained in place of casting"
TRANSFORMATIONS = {
    "to": Transformation(
        title=".to(dtype)",
        apply=lambda model: model.to(model.dtype),
        why="the cast takes every floating-point buffer along, also those that must keep their own dtype",
        remedy=_DO_NOT_CAST,
    ),
    "half": Transformation(
        title=".half()",
        apply=lambda model: model.half(),
        why="the cast takes every floating-point buffer along, also those that must keep their own dtype",
        remedy=_DO_NOT_CAST,
    ),
    "save": Transformation(
        title="save_pretrained and from_pretrained",
        apply=_save_and_load,
        why="the buffer is neither in the files nor computed again as it was",
        remedy="make it persistent, or compute it in the module's __init__",
    ),
    "device": Transformation(
        title="a move to another device and back",
        apply=_there_and_back,
        why="the move does not carry the buffer's bits along",
        remedy="register the buffer in the module that uses it",
        why_not=_no_cuda,
    ),
    "compile": Transformation(
        title="torch.compile and a forward",
        apply=_compile_and_run,
        why="the compiled forward writes to the buffer",
        remedy="compute the value in forward without assigning it to the module",
    ),
}
