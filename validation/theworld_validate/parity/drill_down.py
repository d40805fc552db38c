"""The drill-down: how much two models differ, where they first differ, and how far it spreads.

In: two loaded models and the first place where their traces differ. Out: the difference measured on the tensors of
that place, and of every decoder layer after it. Tensors are kept only here, and only those few.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theworld_validate.compare.numeric import measure_difference
from theworld_validate.fingerprint.behaviour import run_probe, to_tensors
from theworld_validate.fingerprint.trace import Recording, Tracer
from theworld_validate.probes.gemma3 import Probe
from theworld_validate.results import TENSORS_FILE

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"(?:^|/)model\.language_model\.layers\.(\d+)$")
_BARS = "▁▂▃▄▅▆▇█"


class _Capture(Recording):
    """Keeps, on the CPU, the tensors of one place, what entered its module, and the decoder layers' outputs."""

    def __init__(self, prefix: str, place: str) -> None:
        super().__init__(prefix, max_held_bytes=0)
        self.tensors: dict[str, torch.Tensor] = {}
        self.inputs: list[torch.Tensor] = []
        self._place = place

    def observe(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        num_before = len(self.layer)
        super().observe(name, inputs, output)
        if self._place in list(self.layer)[num_before:]:
            import torch

            self.inputs = [value.detach().cpu() for value in inputs if isinstance(value, torch.Tensor)]

    def _take(self, location: str, tensor: "torch.Tensor") -> None:
        self.layer[location] = {}
        if location == self._place or _LAYER.search(location):
            self.tensors[location] = tensor.detach().cpu()


def _capture(model: Any, probe: Probe, place: str, *, seed: int) -> _Capture:
    capture = _Capture(f"{probe.name}/", place)
    with Tracer(model) as tracer:
        run_probe(model, tracer, probe, to_tensors(probe, model), capture, seed=seed)
    return capture


def drill_down(
    reference: Any, candidate: Any, probe: Probe, place: str, *, seed: int = 0, save_to: Path | None = None
) -> dict[str, Any]:
    """Measure the first diverging place, and the spread over the decoder layers.

    Args:
        reference, candidate: loaded models whose traces differ first at `place`.
        probe: the one whose trace it is.
        place: a location of that trace.
        save_to: a folder for both tensors, as `TENSORS_FILE`; not saved if None.

    Returns:
        JSON scalars: `inputs_equal`, the fields of `Difference`, and `spread`, one bar a decoder layer: how the
        largest difference, over the layer's largest value, grows in powers of ten; `tensors_file`, if saved.
    """
    captures = [_capture(model, probe, place, seed=seed) for model in (reference, candidate)]
    expected, actual = (capture.tensors.get(place) for capture in captures)
    measured: dict[str, Any] = {"place": place, "inputs_equal": _equal_inputs(captures[0].inputs, captures[1].inputs)}
    if expected is None or actual is None or expected.shape != actual.shape or expected.dtype != actual.dtype:
        measured["comparable"] = False
    else:
        difference = measure_difference(expected, actual)
        measured.update(
            comparable=True,
            max_abs_difference=difference.max_abs,
            median_ulp=difference.median_ulp,
            max_ulp=difference.max_ulp,
            differing_share=difference.share,
            example_index=str(list(difference.example_index)),
            spread=_sparkline(_spread(captures[0].tensors, captures[1].tensors)),
        )
    if save_to is not None and expected is not None and actual is not None:
        from safetensors.torch import save_file

        save_to.mkdir(parents=True, exist_ok=True)
        tensors = {"reference": expected.contiguous(), "candidate": actual.contiguous()}
        save_file(tensors, save_to / TENSORS_FILE, metadata={"place": place})
        measured["tensors_file"] = TENSORS_FILE
    return measured


def _equal_inputs(expected: "list[torch.Tensor]", actual: "list[torch.Tensor]") -> bool:
    return len(expected) == len(actual) and all(
        one.shape == other.shape and one.dtype == other.dtype and measure_difference(one, other).share == 0
        for one, other in zip(expected, actual, strict=True)
    )


def _spread(expected: "dict[str, torch.Tensor]", actual: "dict[str, torch.Tensor]") -> list[float]:
    """The largest difference of each decoder layer's output, over its largest value."""
    spread = []
    for location, tensor in expected.items():
        other = actual.get(location)
        if _LAYER.search(location) and other is not None and other.shape == tensor.shape:
            largest = max(float(tensor.double().abs().max()), 1e-300)
            spread.append(float((tensor.double() - other.double()).abs().max()) / largest)
    return spread


def _sparkline(values: list[float]) -> str:
    """One bar a value, by powers of ten from 1e-8 to 1; a dot for none."""
    import math

    def bar(value: float) -> str:
        if not value > 0:
            return "·" if value == 0 else "!"
        return _BARS[min(max(int(math.log10(value) + len(_BARS)), 0), len(_BARS) - 1)]

    return "".join(bar(value) for value in values)
