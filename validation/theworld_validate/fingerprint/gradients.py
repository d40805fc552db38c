"""The gradients of one training step, parameter by parameter, with the losses that they are of.

In: a loaded model and probes. Out: the section "gradients": a digest of each parameter's gradient, or that it has
none; and a `Failure` for each pass that raises, which costs that pass alone. The model is left without gradients, and
its parameters as they were.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import (
    INPUTS_EMBEDS,
    LOSS,
    OF_TEXT,
    Failure,
    Fingerprint,
    Observation,
    Section,
)
from theworld_validate.fingerprint.digest import DigestQueue, describe_shape
from theworld_validate.fingerprint.failures import CannotAsk, failure_of
from theworld_validate.fingerprint.forward import (
    NO_EMBEDS,
    NONE,
    cache_argument,
    field_of,
    input_embeddings_of,
    labels_of,
    to_tensors,
)
from theworld_validate.fingerprint.kernels import deterministic_kernels
from theworld_validate.fingerprint.placement import device_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.sketch import SketchBook
from theworld_validate.fingerprint.tensor_parts import NoBits, find_offloaded
from theworld_validate.fingerprint.trace import iterate_tensors
from theworld_validate.fingerprint.tree import iterate_modules, iterate_parameters
from theworld_validate.probes.probe import GradientProbes, Probe
from theworld_validate.subjects.wrappers import own_name, unwrap

if TYPE_CHECKING:
    import torch


def fingerprint_gradients(
    model: Any, probes: GradientProbes, *, seed: int = 0, deterministic: bool = True, sketch: bool = False
) -> Fingerprint:
    """Run forward and backward passes in training mode, and observe losses and gradients.

    Args:
        model: what a loader returned; its modules are in the mode that it left them in afterwards.
        probes: what the passes are on: every parameter's gradient on a prompt with an image, so that the vision side
            takes part; the same of a text alone, at "PARAMETER(text)"; and that of embeddings that are given.
        seed: set before each pass.
        deterministic: choose deterministic kernels on CUDA; an operation that has none fails its pass.
        sketch: also sketch every gradient.

    Returns:
        The section; without it, if every pass raised. Losses of passes that raised later are in it.

    Raises:
        CannotAsk: for a model whose weights are offloaded: what the backward pass needs is gone by then.
    """
    model = unwrap(model).model
    if find_offloaded(model):
        raise CannotAsk("weights that are offloaded have no gradients: load the model without offloading")
    on_cuda = deterministic and device_of(model).type == "cuda"
    passes = _Passes(model, seed=seed, sketch=sketch)
    model.zero_grad(set_to_none=True)
    with _training(model), deterministic_kernels(enabled=on_cuda, warn_only=False):
        # Differences are read from the last to the first: that of given embeddings may follow from the others'.
        if probes.embeds is not None:
            passes.take(partial(passes.take_embeddings, probes.embeds))
        passes.take(partial(passes.take_parameters, probes.whole))
        if probes.text is not None:
            passes.take(partial(passes.take_parameters, probes.text, OF_TEXT))
    return passes.fingerprint()


class _Passes:
    """Passes over one model; of its gradients, one pass's are held at a time."""

    def __init__(self, model: Any, *, seed: int, sketch: bool) -> None:
        self._model, self._seed = model, seed
        self._section: Section = {}
        self._losses: Section = {}
        self._failures: list[Failure] = []
        self._num_bytes = 0
        self._book = SketchBook() if sketch else None
        self._queue = DigestQueue(max_held_bytes=None, sketches=self._book)

    def take(self, one_pass: Callable[[], None]) -> None:
        """Take one pass, and let go of the gradients that it leaves; if it raises, the others go on."""
        try:
            one_pass()
            self._queue.finish()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever a subject raises
            self._failures.append(failure_of(error, "gradients"))
        finally:
            self._model.zero_grad(set_to_none=True)

    def take_parameters(self, probe: Probe, mark: str = "") -> None:
        """Go back from the loss of a probe to every parameter; `mark` ends the locations."""
        inputs = {**to_tensors(probe, self._model), **labels_of(probe, self._model)}
        loss = self._loss(probe, inputs, mark)
        if loss is not None and loss.requires_grad:
            loss.backward()
        parameters: dict[int, tuple[str, Any]] = {}
        for name, parameter in iterate_parameters(self._model):
            parameters.setdefault(id(parameter), (name, parameter))  # a tied one under its first name
        rename = own_name(self._model)
        for name, parameter in parameters.values():
            self._observe(f"{clean_text(rename(name))}{mark}", parameter.grad)

    def take_embeddings(self, probe: Probe) -> None:
        """Go back from the loss of a probe to the embeddings of its ids, which the model is given in place of them."""
        import torch

        embed = input_embeddings_of(self._model)
        if embed is None:
            self._section[INPUTS_EMBEDS] = {"gradient": NO_EMBEDS}
            return
        inputs = {**to_tensors(probe, self._model), **labels_of(probe, self._model)}
        with torch.no_grad():
            embeds = embed(inputs.pop("input_ids"))
        leaf = embeds.detach().requires_grad_()
        given = {**inputs, "inputs_embeds": leaf.clone()}  # a model may write into what it is given, and not to a leaf
        loss = self._loss(probe, given, INPUTS_EMBEDS)
        if loss is not None and loss.requires_grad:
            # To every parameter too: re-entrant checkpointing refuses to be asked for one gradient alone.
            loss.backward()
        self._observe(INPUTS_EMBEDS, leaf.grad)

    def fingerprint(self) -> Fingerprint:
        """What was observed; the losses at the end, from which every gradient follows."""
        self._queue.finish()  # of a loss whose pass raised later
        seen = {**self._section, **self._losses}
        return Fingerprint(
            sections={"gradients": seen} if seen else {},  # of which nothing was seen is missing, and not empty
            num_bytes={"gradients": self._num_bytes} if seen else {},
            failures=tuple(dict.fromkeys(self._failures)),
            sketches={} if self._book is None else self._book.sketches,
        )

    def _loss(self, probe: Probe, inputs: "dict[str, torch.Tensor]", mark: str) -> Any:
        import torch

        torch.manual_seed(self._seed)
        has_labels = probe.labels is not None
        loss = loss_of(self._model(**inputs, **cache_argument(probe, wanted=False)), has_labels=has_labels)
        if has_labels:  # else it is a stand-in of the harness's own
            self._num_bytes += _observe_into(self._losses, f"{LOSS}{mark}", _detached(loss), self._queue)
        return loss

    def _observe(self, location: str, gradient: Any) -> None:
        self._num_bytes += _observe_into(self._section, location, gradient, self._queue)


def loss_of(output: Any, *, has_labels: bool) -> Any:
    """What a step goes back from: the forward's own loss; where it takes no labels, of what it gives.

    The stand-in is the mean square of every floating-point tensor of the output that has a gradient.
    """
    if has_labels:
        return field_of(output, "loss")
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


def _detached(loss: Any) -> Any:
    """The loss less the graph that it is the end of, or it would be held until the digest is made."""
    return loss.detach() if hasattr(loss, "detach") else loss


def _observe_into(section: Section, location: str, tensor: Any, queue: DigestQueue) -> int:
    """Observe a gradient or a loss, or that there is none; how many bytes it has."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        section[location] = {"gradient": NONE if tensor is None else type(tensor).__name__}
        return 0
    seen: Observation = {"gradient": describe_shape(tensor)}
    section[location] = seen
    try:
        queue.add(tensor, seen)
    except NoBits as error:
        seen["unreadable"] = clean_text(str(error))
    return tensor.nbytes
