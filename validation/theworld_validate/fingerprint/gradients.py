"""The gradients of one training step, parameter by parameter.

In: a loaded model and a probe. Out: the section "gradients": a digest of each parameter's gradient, or that it has
none. The model is left without gradients, and its parameters as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.fingerprint.digest import DigestQueue, describe_shape
from theworld_validate.fingerprint.failures import CannotAsk
from theworld_validate.fingerprint.forward import cache_argument, labels_of, to_tensors
from theworld_validate.fingerprint.kernels import deterministic_kernels
from theworld_validate.fingerprint.placement import device_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.sketch import SketchBook
from theworld_validate.fingerprint.tensor_parts import NoBits, find_offloaded
from theworld_validate.fingerprint.trace import iterate_tensors
from theworld_validate.fingerprint.tree import iterate_modules, iterate_parameters
from theworld_validate.probes.probe import Probe
from theworld_validate.subjects.wrappers import own_name, unwrap


def fingerprint_gradients(
    model: Any, probe: Probe, *, seed: int = 0, deterministic: bool = True, sketch: bool = False
) -> Fingerprint:
    """Run one forward and backward pass on `probe` in training mode, and observe every parameter's gradient.

    Args:
        model: what a loader returned; its modules are in the mode that it left them in afterwards.
        probe: one with an image, so that the vision side takes part.
        seed: set before the pass.
        deterministic: choose deterministic kernels on CUDA; an operation that has none is a RuntimeError.
        sketch: also sketch every gradient.

    Raises:
        CannotAsk: for a model whose weights are offloaded: what the backward pass needs is gone by then.
    """
    import torch

    model = unwrap(model).model
    if find_offloaded(model):
        raise CannotAsk("weights that are offloaded have no gradients: load the model without offloading")
    section: Section = {}
    book = SketchBook() if sketch else None
    queue = DigestQueue(max_held_bytes=None, sketches=book)
    inputs = {**to_tensors(probe, model), **labels_of(probe, model), **cache_argument(probe, wanted=False)}
    rename = own_name(model)
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    try:
        on_cuda = deterministic and device_of(model).type == "cuda"
        with _training(model), deterministic_kernels(enabled=on_cuda, warn_only=False):
            loss = loss_of(model(**inputs), has_labels=probe.labels is not None)
            if loss is not None and loss.requires_grad:
                loss.backward()
        parameters: dict[int, tuple[str, Any]] = {}
        for name, parameter in iterate_parameters(model):
            parameters.setdefault(id(parameter), (name, parameter))  # a tied one under its first name
        for name, parameter in parameters.values():
            section[clean_text(rename(name))] = _observe_gradient(parameter.grad, queue)
        queue.finish()
        num_bytes = sum(p.grad.nbytes for _, p in parameters.values() if p.grad is not None)
    finally:
        model.zero_grad(set_to_none=True)
    sketches = {} if book is None else book.sketches
    return Fingerprint(sections={"gradients": section}, num_bytes={"gradients": num_bytes}, sketches=sketches)


def loss_of(output: Any, *, has_labels: bool) -> Any:
    """What a step goes back from: the forward's own loss; where it takes no labels, of what it gives.

    The stand-in is the mean square of every floating-point tensor of the output that has a gradient.
    """
    if has_labels:
        return output.loss
    tensors = [tensor for _, tensor in iterate_tensors(output) if tensor.is_floating_point() and tensor.requires_grad]
    return sum(tensor.float().square().mean() for tensor in tensors) if tensors else None


@contextmanager
def _training(model: Any) -> Iterator[None]:
    """Training mode until the block ends; a batch norm stays as it is, or it would change its statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    before = [(module, module.training) for _, module in iterate_modules(model) if not isinstance(module, _BatchNorm)]
    for module, _ in before:
        module.training = True
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _observe_gradient(gradient: Any, queue: DigestQueue) -> Observation:
    if gradient is None:
        return {"gradient": "none"}
    seen: Observation = {"gradient": describe_shape(gradient)}
    try:
        queue.add(gradient, seen)
    except NoBits as error:
        seen["unreadable"] = clean_text(str(error))
    return seen
