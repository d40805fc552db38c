"""The gradients of one training step, parameter by parameter.

In: a loaded model and a probe. Out: the layer "gradients": a digest of each parameter's gradient, or that it has
none. The model is left without gradients, and its parameters as they were.
"""

from typing import Any

from theworld_validate.documents.observations import Fingerprint, Layer, Observation
from theworld_validate.fingerprint.behaviour import deterministic_kernels, make_labels, to_tensors
from theworld_validate.fingerprint.digest import DigestQueue, describe_shape
from theworld_validate.probes.gemma3 import Probe


def fingerprint_gradients(model: Any, probe: Probe, *, seed: int = 0, deterministic: bool = True) -> Fingerprint:
    """Run one forward and backward pass on `probe`, and observe every parameter's gradient.

    Args:
        model: in the mode that its loader left it in.
        probe: one with an image, so that the vision side takes part.
        seed: set before the pass.
        deterministic: choose deterministic kernels on CUDA; an operation that has none is a RuntimeError.
    """
    import torch

    layer: Layer = {}
    queue = DigestQueue(max_held_bytes=None)
    inputs = to_tensors(probe, model)
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    with deterministic_kernels(enabled=deterministic and model.device.type == "cuda", warn_only=False):
        loss = model(**inputs, labels=make_labels(inputs), use_cache=False).loss
        if loss is not None and loss.requires_grad:
            loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            layer[name] = {"gradient": "none"}
        else:
            seen: Observation = {"gradient": describe_shape(parameter.grad)}
            queue.add(parameter.grad, seen)
            layer[name] = seen
    queue.finish()
    num_bytes = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    model.zero_grad(set_to_none=True)
    return Fingerprint(layers={"gradients": layer}, num_bytes={"gradients": num_bytes})
