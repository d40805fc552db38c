"""The second look measures what it says, on the tensors of both sides."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.parity.looking import Question, _sparkline, look, measure
from theworld_validate.results import TENSORS_FILE
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import REFERENCE_TARGET
from theworld_validate.workers.messages import Answer

PLACE = "text/model.language_model.layers.2.mlp"
LAYER = "layer/text/model.language_model.layers.{}"


def test_sparkline() -> None:
    assert _sparkline([0.0, 1e-9, 1e-4, 1.0, float("nan"), float("inf")]) == "·▁▅█!!"


def measured(
    tmp_path: Path,
    reference: dict[str, torch.Tensor],
    candidate: dict[str, torch.Tensor],
    *,
    place: str | None = PLACE,
    save_to: Path | None = None,
) -> dict[str, Any]:
    files = [str(tmp_path / name) for name in ("reference", "candidate")]
    for file, tensors in zip(files, (reference, candidate), strict=True):
        save_file(tensors, file)
    (answer,) = measure(*files, place, None if save_to is None else str(save_to))
    assert isinstance(answer, Answer)
    return answer.values


def test_a_place_that_differs(tmp_path: Path) -> None:
    ones = torch.ones(2, 5)
    other = ones.clone()
    other.view(torch.int32)[1, 3] += 1
    inputs = {"input/0": torch.zeros(3)}
    layers = {LAYER.format(i): torch.full((2,), 2.0) for i in (0, 2, 10)}
    seen = measured(
        tmp_path,
        {"place": ones, **inputs, **layers},
        {"place": other, **inputs, **layers, LAYER.format(10): torch.full((2,), 4.0)},
        save_to=tmp_path / "out",
    )
    assert seen == {
        "weights": [],
        "divergence_place": PLACE,
        "divergence_inputs_equal": True,
        "divergence_comparable": True,
        "divergence_max_abs_difference": float(other[1, 3] - 1),
        "divergence_median_ulp": 1,
        "divergence_max_ulp": 1,
        "divergence_differing_share": 0.1,
        "divergence_example_index": "[1, 3]",
        "divergence_spread": "··█",  # layers in their own order, 10 after 2
        "divergence_tensors_file": TENSORS_FILE,
    }
    written = load_file(tmp_path / "out" / TENSORS_FILE)
    assert torch.equal(written["reference"], ones)
    assert torch.equal(written["candidate"], other)
    with safe_open(tmp_path / "out" / TENSORS_FILE, "pt") as file:
        assert file.metadata() == {"place": PLACE}


@pytest.mark.parametrize(
    ("reference", "candidate", "equal"),
    [
        ({"input/0": torch.ones(2)}, {"input/0": torch.zeros(2)}, False),
        ({"input/0": torch.ones(2)}, {"input/0": torch.ones(2, dtype=torch.bfloat16)}, False),
        ({"input/0": torch.ones(2)}, {"input/0": torch.ones(3)}, False),
        ({"input/0": torch.ones(2)}, {"input/0": torch.ones(2), "input/1": torch.ones(2)}, False),
        ({"input/0": torch.tensor([0.0])}, {"input/0": torch.tensor([-0.0])}, False),
        ({"input/0": torch.tensor([float("nan")])}, {"input/0": torch.tensor([float("nan")])}, True),
        ({}, {}, None),
    ],
)
def test_inputs(tmp_path: Path, reference: dict[str, Any], candidate: dict[str, Any], equal: bool | None) -> None:
    place = {"place": torch.ones(1)}
    seen = measured(tmp_path, {**place, **reference}, {**place, **candidate})
    assert seen["divergence_inputs_equal"] is equal


def test_a_place_that_one_side_lacks_is_not_compared_and_nothing_is_said_of_its_inputs(tmp_path: Path) -> None:
    seen = measured(tmp_path, {}, {"place": torch.ones(1), "input/0": torch.ones(1)}, save_to=tmp_path / "out")
    assert seen == {
        "weights": [],
        "divergence_place": PLACE,
        "divergence_inputs_equal": None,
        "divergence_comparable": False,
    }
    assert not (tmp_path / "out").exists()


def test_a_place_of_another_shape_is_saved_and_not_measured(tmp_path: Path) -> None:
    seen = measured(tmp_path, {"place": torch.ones(1)}, {"place": torch.ones(2)}, save_to=tmp_path / "out")
    assert seen["divergence_comparable"] is False
    assert "divergence_max_ulp" not in seen
    assert (tmp_path / "out" / TENSORS_FILE).is_file()


def test_weights(tmp_path: Path) -> None:
    reference = {"weight/a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "weight/b": torch.ones(2), "weight/c": torch.ones(2)}
    candidate = {"weight/a": torch.tensor([1.0, 2.0, 3.0, 5.0]), "weight/b": torch.tensor([1.0, float("nan")])}
    seen = measured(tmp_path, reference, candidate, place=None)
    assert list(seen) == ["weights"]
    a, b = seen["weights"]  # one that the candidate lacks is not measured
    assert (a["name"], a["differing_share"]) == ("a", 0.25)
    assert a["reference_std"] == pytest.approx(1.118, abs=1e-3)
    assert (b["name"], b["differing_share"], b["candidate_std"]) == ("b", 0.5, None)


def test_what_is_looked_at_is_written(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    subject = Subject(target=REFERENCE_TARGET, checkpoint=str(tiny.gemma))
    weight = "model.language_model.layers.2.mlp.down_proj.weight"
    question = Question(weights=(weight, "no.such.weight"), probe="text", place=f"{PLACE}.down_proj")
    file = tmp_path / "seen.safetensors"
    *_, answer = look(subject, question, str(file), repeat=True)
    assert isinstance(answer, Answer)
    assert answer.values == {"repeats": True}
    tensors = load_file(file)
    weights = [name for name in tensors if name.startswith("weight/")]
    layers = sorted(name for name in tensors if name.startswith("layer/"))
    assert weights == [f"weight/{weight}"]
    assert layers == [LAYER.format(i) for i in range(8)]
    assert sorted(set(tensors) - {*weights, *layers}) == ["input/0", "place"]
    projected = torch.nn.functional.linear(tensors["input/0"], tensors[weights[0]])
    assert torch.equal(projected, tensors["place"])
