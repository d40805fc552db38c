"""What a model's cache holds is an answer, in whatever form its release or its own code keeps it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache

from theworld_validate.fingerprint.forward import NONE, cache_answers

KEYS = [torch.full((1, 2, 3, 4), float(layer)) for layer in range(2)]
VALUES = [keys + 10 for keys in KEYS]


def todays() -> Any:
    cache = DynamicCache()
    for layer in range(2):
        cache.update(KEYS[layer], VALUES[layer], layer)
    return cache


@pytest.mark.parametrize(
    "cache",
    [
        todays(),
        SimpleNamespace(key_cache=KEYS, value_cache=VALUES),  # before transformers 4.54, and of some models' own
        tuple(zip(KEYS, VALUES, strict=True)),
    ],
    ids=["layers", "two lists", "pairs"],
)
def test_every_form_gives_the_same_answers(cache: Any) -> None:
    answers = cache_answers(cache)
    assert list(answers) == ["cache[0].keys", "cache[0].values", "cache[1].keys", "cache[1].values"]
    for layer in range(2):
        for name, expected in (("keys", KEYS[layer]), ("values", VALUES[layer])):
            seen = answers[f"cache[{layer}].{name}"]
            assert isinstance(seen, torch.Tensor)
            assert torch.equal(seen, expected)


def test_a_decoders_cache_of_its_encoder_is_an_answer_too() -> None:
    own, cross = todays(), todays()
    cross.layers[0].keys = KEYS[0] + 100
    answers = cache_answers(EncoderDecoderCache(own, cross))
    assert len(answers) == 8
    for name, cache in (("cache", own), ("cross_cache", cross)):
        seen = answers[f"{name}[0].keys"]
        assert isinstance(seen, torch.Tensor)
        assert torch.equal(seen, cache.layers[0].keys)


def test_a_layer_without_one_of_the_two_is_said() -> None:
    answers = cache_answers(SimpleNamespace(key_cache=[None, KEYS[1]], value_cache=[None]))
    assert answers["cache[0].keys"] == answers["cache[0].values"] == answers["cache[1].values"] == NONE
    assert isinstance(answers["cache[1].keys"], torch.Tensor)


def test_what_is_no_cache_is_said_in_words() -> None:
    assert cache_answers(None) == {"cache": NONE}
    assert cache_answers(SimpleNamespace()) == {"cache": "SimpleNamespace without layers"}
