"""Distances of logits, and the error rates that are counted from them."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.error_rates import METHODS, Method, best_of, draw, errors_at
from benchmarks.judged_rows import Row, read_rows, write_rows
from benchmarks.tolerances import MOST, TOLERANCES, distances_between

LOGITS = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 0.5]])


def row(kind: str, ratio: float, **fields: object) -> Row:
    worst = {"text": (ratio, "text/logits"), "gradients": (ratio, "lm_head.weight")}
    distances = dict.fromkeys(TOLERANCES, ratio)
    return Row(name=f"{kind} {ratio}", kind=kind, worst=worst, distances=distances, logits_ratio=ratio, **fields)  # type: ignore[arg-type]


def test_equal_logits_are_no_distance_apart() -> None:
    assert distances_between([LOGITS], [LOGITS.clone()]) == dict.fromkeys(TOLERANCES, 0.0)


def test_each_distance_is_what_its_name_says() -> None:
    other = LOGITS.clone()
    other[1] = torch.tensor([0.5, -1.0, 0.0])  # the greatest two change places
    found = distances_between([LOGITS, LOGITS], [LOGITS, other])
    p, q = LOGITS[1].softmax(-1), other[1].softmax(-1)
    assert found["assert_close"] == pytest.approx(0.5 / 1e-5)  # where the reference is 0, the absolute part alone
    assert found["cosine"] == pytest.approx(1 - 1 / 1.25)
    assert found["kl"] == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)
    assert found["argmax"] == 0.5


def test_the_unit_of_assert_close_is_torchs_own() -> None:
    for off, is_close in ((0.9, True), (1.1, False)):
        other = LOGITS + off * (1e-5 + 1.3e-6 * LOGITS.abs())
        assert (distances_between([LOGITS], [other])["assert_close"] <= 1) is is_close
        try:
            torch.testing.assert_close(other, LOGITS)
            assert is_close
        except AssertionError:
            assert not is_close


@pytest.mark.parametrize("other", [LOGITS[:1], LOGITS * float("nan"), LOGITS.masked_fill(LOGITS > 3, math.inf)])
def test_another_shape_or_a_number_that_is_not_finite_passes_no_threshold(other: torch.Tensor) -> None:
    assert distances_between([LOGITS], [other]) == dict.fromkeys(TOLERANCES, MOST)


def test_a_method_errs_on_both_sides_and_is_given_its_best_threshold() -> None:
    benign, faults = [row("benign", r) for r in (0.0, 1.2, 2.0)], [row("fault", r) for r in (1.5, 50.0, 4e5)]
    (method,) = [one for one in METHODS if one.name.startswith("referee, the ratios")]
    assert errors_at(method, benign, faults, 1.0).alarms == 2
    assert errors_at(method, benign, faults, 3.0).missed == 1
    best = best_of(method, benign, faults)
    assert (best.alarms, best.missed) in ((0, 1), (1, 0))
    silent = best_of(method, benign, faults, most_alarms=0)
    assert (silent.alarms, silent.missed) == (0, 1)
    assert silent.threshold == pytest.approx(10.0)  # in the middle between 2 and 50


def test_what_tells_nothing_apart_has_no_threshold_that_helps() -> None:
    blind = Method(name="blind", score=lambda _: 0.0, usual=1.0)
    best = best_of(blind, [row("benign", 1.0)], [row("fault", 1.0)])
    assert (best.alarms, best.missed) == (0, 1)


def test_rows_come_back_from_their_file_and_are_drawn(tmp_path: Path) -> None:
    rows = [row("benign", 1.5), row("fault", 80.0, differs={"trace": 1}, numbers=["trace.digest@a=b"])]
    write_rows(tmp_path / "rows.json", rows, dtype="float32", libraries={"torch": "2"})
    assert read_rows(tmp_path / "rows.json") == rows
    assert [one.is_visible for one in rows] == [False, True]
    assert rows[1].is_of_another_kind
    draw(rows[:1], rows[1:], tmp_path / "ratios.svg")
    assert "<svg" in (tmp_path / "ratios.svg").read_text()
