"""Outputs that are not finite, and the module that gave the first of them. Equal NaNs prove nothing.

In: what a model answered. Out: whether logits and loss are finite; and, of a second run, the first module whose output
is not. Masks are no outputs of modules: their infinities are meant.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from theworld_validate.documents.observations import Observation
from theworld_validate.fingerprint.digest import describe_shape
from theworld_validate.fingerprint.trace import Recording

if TYPE_CHECKING:
    import torch

NON_FINITE = "non_finite"  # where outputs say so: "PROBE/non_finite"


def find_non_finite(tensors: "Iterable[tuple[str, torch.Tensor]]") -> str | None:
    """Name the first tensor that holds a NaN or an infinity; read from the device once.

    Args:
        tensors: names and tensors; what is not floating point is finite.
    """
    import torch

    names, flags = [], []
    for name, tensor in tensors:
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
            names.append(name)
            flags.append(_is_finite(tensor))
    if not flags:
        return None
    finite = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    return next((name for name, is_finite in zip(names, finite, strict=True) if not is_finite), None)


def _is_finite(tensor: "torch.Tensor") -> "torch.Tensor":
    """A scalar on the tensor's device. Both ends tell, as a NaN is both: one pass, and no mask of the tensor's size."""
    import torch

    values = tensor.detach()
    if values.element_size() == 1:  # float8 has no order of its own
        values = values.float()
    return torch.stack(torch.aminmax(values)).isfinite().all()


class _Output(NamedTuple):
    place: str
    description: str
    count: "torch.Tensor"


class FiniteRecording(Recording):
    """Counts what is not finite in each module's output, in call order; digests nothing."""

    def __init__(self) -> None:
        super().__init__(max_held_bytes=0)
        self._outputs: list[_Output] = []

    def observe_mask(self, name: str, mask: Any) -> None:
        """Masks are left out."""

    def _take(self, location: str, tensor: "torch.Tensor") -> None:
        if tensor.is_floating_point() and not tensor.is_meta:
            count = tensor.numel() - tensor.detach().isfinite().sum()
            self._outputs.append(_Output(location, describe_shape(tensor), count.cpu()))

    def first(self) -> Observation | None:
        """Describe the first output that is not finite: its place, dtype and shape, how many of its values are not,
        and how many places are not; None where all are finite."""
        bad = [output for output in self._outputs if output.count]
        if not bad:
            return None
        place, description, count = bad[0]
        return {"first": place, "tensor": description, "non_finite": int(count), "places": len(bad)}
