"""Choosing probes by name, and the one that gradients are taken on."""

import numpy as np
import pytest

from theworld_validate.probes.probe import Probe, choose_probes, gradient_probe
from theworld_validate.results import InputError


def make_probe(name: str, *, image: bool = False) -> Probe:
    ones = np.ones((1, 4), dtype=np.int64)
    inputs = {"input_ids": ones, "attention_mask": ones, "token_type_ids": ones * 0}
    if image:
        inputs["pixel_values"] = np.zeros((1, 3, 2, 2), dtype=np.float32)
    return Probe(name=name, inputs=inputs, images_per_row=(int(image),))


PROBES = (make_probe("text"), make_probe("image", image=True), make_probe("batch", image=True), make_probe("long"))


def test_no_name_means_all() -> None:
    assert choose_probes(PROBES, ()) == PROBES


def test_names_choose_in_the_probes_order() -> None:
    assert [probe.name for probe in choose_probes(PROBES, ("long", "text"))] == ["text", "long"]


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"--probe imaeg: no such probe; .*did you mean image\?"):
        choose_probes(PROBES, ("imaeg",))


def test_gradients_are_taken_on_the_last_with_an_image() -> None:
    chosen = gradient_probe(PROBES)
    assert chosen is not None
    assert chosen.name == "batch"
    assert gradient_probe(PROBES[:1]) is None
