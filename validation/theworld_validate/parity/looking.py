"""The second look: what digests do not say of two models that differ. Only made where something differs.

In: a subject, and the names of weights and the place of a trace that are in question. Out: their tensors as a file,
from a worker for each side; and how much the two files differ, from a worker that runs neither side's code.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theworld_validate.parity.loader import Loader
from theworld_validate.results import TENSORS_FILE, Row
from theworld_validate.workers.messages import Answer, Message, Step

if TYPE_CHECKING:
    import torch

LOOK = "theworld_validate.parity.looking:look"
MEASURE = "theworld_validate.parity.looking:measure"
# A decoder layer's output: of a composite model its language model's, and else of any list of blocks.
_LAYER = re.compile(r"(?:^|/|\.)language_model\.layers\.(\d+)$")
_BLOCK = re.compile(r"(?:^|/|\.)(?:layers?|h|blocks?|block)\.(\d+)$")
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is looked at.

    Args:
        weights: names of parameters whose bits differ.
        probe: the probe whose trace differs first; None where no trace does.
        place: a location of that trace.
    """

    weights: tuple[str, ...] = ()
    probe: str | None = None
    place: str | None = None


def look(loader: Loader, question: Question, file: str, *, repeat: bool) -> Iterator[Message]:
    """Load a subject again, and write the tensors in question to a safetensors file.

    Args:
        file: where to; keys are "weight/NAME", "place", "input/I" and "layer/LOCATION".
        repeat: run the probe twice, and answer whether the traces are equal ("repeats").
    """
    from safetensors.torch import save_file

    from theworld_validate.fingerprint.alignment import align_weights
    from theworld_validate.subjects.wrappers import unwrap

    yield Step(text="looking for the cause")
    model = unwrap(loader.load()).model
    weights = dict(model.named_parameters())
    tensors = {
        f"weight/{name}": weights[name].detach().cpu()
        for name in question.weights
        if name in weights and not weights[name].is_meta
    }
    values: dict[str, Any] = {}
    if question.probe is not None and question.place is not None:
        align_weights(model)
        probe = _probe(loader, question.probe)
        capture = _capture(model, probe, question.place, seed=loader.seed)
        tensors.update({f"input/{i}": tensor for i, tensor in enumerate(capture.inputs)})
        tensors.update({f"layer/{location}": tensor for location, tensor in capture.layers.items()})
        if capture.tensor is not None:
            tensors["place"] = capture.tensor
        if repeat:
            values["repeats"] = _repeats(model, probe, seed=loader.seed)
    # Views of one storage are written apart.
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)
    yield Answer(values=values)


def _probe(loader: Loader, name: str) -> Any:
    from theworld_validate.parity.questions import questions_of

    return questions_of(loader, (name,)).probes[0]


def _repeats(model: Any, probe: Any, *, seed: int) -> bool:
    from theworld_validate.fingerprint.behaviour import fingerprint_trace

    return fingerprint_trace(model, probe, seed=seed) == fingerprint_trace(model, probe, seed=seed)


def _capture(model: Any, probe: Any, place: str, *, seed: int) -> Any:
    from theworld_validate.fingerprint.behaviour import run_probe, to_tensors
    from theworld_validate.fingerprint.trace import Recording, Tracer

    has_language_model = any(_LAYER.search(name) for name, _ in model.named_modules())

    class Capture(Recording):
        """Keeps, on the CPU, the tensor of one place, what entered its module, and the decoder layers' outputs."""

        def __init__(self) -> None:
            super().__init__(f"{probe.name}/", max_held_bytes=0)
            self.tensor: torch.Tensor | None = None
            self.layers: dict[str, torch.Tensor] = {}
            self.inputs: list[torch.Tensor] = []

        def observe(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
            import torch

            num_before = len(self.layer)
            super().observe(name, inputs, output)
            if place in list(self.layer)[num_before:]:
                self.inputs = [value.detach().cpu() for value in inputs if isinstance(value, torch.Tensor)]

        def _take(self, location: str, tensor: "torch.Tensor") -> None:
            self.layer[location] = {}
            if location == place:
                self.tensor = tensor.detach().cpu()
            if (_LAYER if has_language_model else _BLOCK).search(location):
                self.layers[location] = tensor.detach().cpu()

    capture = Capture()
    with Tracer(model) as tracer:
        run_probe(model, tracer, probe, to_tensors(probe, model), capture, seed=seed)
    return capture


def measure(reference: str, candidate: str, place: str | None, save_to: str | None) -> Iterator[Message]:
    """Compare what both looks wrote.

    Args:
        reference, candidate: the two files.
        place: of the trace, for the saved file's metadata.
        save_to: a folder for both tensors of the place, as `TENSORS_FILE`; not saved if None.

    Messages: one answer: "weights", a row for each weight with its `differing_share`, `candidate_std` and
    `reference_std`; "inputs_equal"; and the fields of `Difference` with "divergence_" before them.
    """
    from safetensors.torch import load_file

    ours, theirs = load_file(reference), load_file(candidate)
    yield Answer(
        values={
            "weights": [
                _measure_weight(name.removeprefix("weight/"), ours[name], theirs[name])
                for name in ours
                if name.startswith("weight/") and name in theirs
            ],
            **(_measure_place(ours, theirs, place, save_to) if place is not None else {}),
        }
    )


def _measure_weight(name: str, expected: "torch.Tensor", actual: "torch.Tensor") -> Row:
    same_shape = expected.shape == actual.shape
    return {
        "name": name,
        "differing_share": float((expected.float() != actual.float()).float().mean()) if same_shape else 1.0,
        "candidate_std": _std(actual),
        "reference_std": _std(expected),
    }


def _std(tensor: "torch.Tensor") -> float | None:
    """The standard deviation of a weight; None where it is not finite."""
    import math

    value = float(tensor.float().std(correction=0))
    return value if math.isfinite(value) else None


def _measure_place(
    expected: "dict[str, torch.Tensor]", actual: "dict[str, torch.Tensor]", place: str, save_to: str | None
) -> dict[str, Any]:
    from safetensors.torch import save_file

    from theworld_validate.compare.numeric import measure_difference

    one, other = expected.get("place"), actual.get("place")
    measured: dict[str, Any] = {
        "divergence_place": place,
        "divergence_inputs_equal": None if one is None or other is None else _equal_inputs(expected, actual),
        "divergence_comparable": False,
    }
    if one is None or other is None:
        return measured
    if one.shape == other.shape and one.dtype == other.dtype:
        difference = measure_difference(one, other)
        measured |= {
            "divergence_comparable": True,
            "divergence_max_abs_difference": difference.max_abs,
            "divergence_median_ulp": difference.median_ulp,
            "divergence_max_ulp": difference.max_ulp,
            "divergence_differing_share": difference.share,
            "divergence_example_index": str(list(difference.example_index)),
            "divergence_spread": _sparkline(_spread(expected, actual)),
        }
    if save_to is not None:
        Path(save_to).mkdir(parents=True, exist_ok=True)
        tensors = {"reference": one.contiguous(), "candidate": other.contiguous()}
        save_file(tensors, Path(save_to, TENSORS_FILE), metadata={"place": place})
        measured["divergence_tensors_file"] = TENSORS_FILE
    return measured


def _equal_inputs(expected: "dict[str, torch.Tensor]", actual: "dict[str, torch.Tensor]") -> bool | None:
    """Whether a module was called with the same tensors; None if it was called with none that could be kept."""
    from theworld_validate.compare.numeric import measure_difference

    names = [name for name in expected if name.startswith("input/")]
    if names != [name for name in actual if name.startswith("input/")]:
        return False
    if not names:
        return None
    return all(
        expected[name].shape == actual[name].shape
        and expected[name].dtype == actual[name].dtype
        and measure_difference(expected[name], actual[name]).share == 0
        for name in names
    )


def _spread(expected: "dict[str, torch.Tensor]", actual: "dict[str, torch.Tensor]") -> list[float]:
    """The largest difference of each decoder layer's output, over its largest value."""
    spread = []
    for name, tensor in sorted(expected.items(), key=lambda item: _layer_number(item[0])):
        other = actual.get(name)
        if name.startswith("layer/") and other is not None and other.shape == tensor.shape:
            largest = max(float(tensor.double().abs().max()), 1e-300)
            spread.append(float((tensor.double() - other.double()).abs().max()) / largest)
    return spread


def _layer_number(name: str) -> int:
    found: Sequence[str] = re.findall(r"\d+", name)
    return int(found[-1]) if found else -1


def _sparkline(values: list[float]) -> str:
    """One bar a value, by powers of ten from 1e-8 to 1; a dot for none, an exclamation mark for no number."""
    import math

    def bar(value: float) -> str:
        if not value > 0:
            return "·" if value == 0 else "!"
        if math.isinf(value):
            return "!"
        return _BARS[min(max(int(math.log10(value) + len(_BARS)), 0), len(_BARS) - 1)]

    return "".join(bar(value) for value in values)
