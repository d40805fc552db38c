"""What greedy generation chose by: the model's own scores, in documents that are whole."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from transformers import Gemma3ForConditionalGeneration, LogitsProcessor

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.documents.choices import NUM_BEST, Choice, why_no_choice
from theworld_validate.fingerprint.behaviour import behaviour_steps, to_tensors
from theworld_validate.fingerprint.generation import generate
from theworld_validate.probes.gemma3 import NEW_TOKENS, build_probes
from theworld_validate.probes.probe import Probe
from theworld_validate.subjects.checkpoints import read_config


@pytest.fixture(scope="module")
def model(tiny: SyntheticCheckpoint) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(tiny.gemma, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def probes(tiny: SyntheticCheckpoint) -> dict[str, Probe]:
    return {probe.name: probe for probe in build_probes(read_config(tiny.gemma), seed=0)}


@pytest.mark.parametrize("name", ["text", "left_padded_batch"])
def test_each_row_of_each_step_says_what_it_chose_by(model: Any, probes: dict[str, Probe], name: str) -> None:
    made = generate(model, probes[name], "greedy", seed=0, with_choices=True)
    tokens = made.answers["greedy"]
    assert isinstance(tokens, torch.Tensor)
    assert list(made.choices) == [f"greedy_logits[{i}]" for i in range(NEW_TOKENS)]
    for i, rows in enumerate(made.choices.values()):
        logits = made.answers[f"greedy_logits[{i}]"]
        assert isinstance(logits, torch.Tensor)
        assert [row.token for row in rows] == tokens[:, i - NEW_TOKENS].tolist()
        for row, scores in zip(rows, logits, strict=True):
            assert why_no_choice(row) is None
            assert row.is_greatest
            assert row.best == tuple((t, scores[t].item()) for t in scores.topk(NUM_BEST).indices.tolist())


def test_a_processor_that_chooses_is_seen(
    model: Any, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NeverTheBest(LogitsProcessor):
        def __call__(self, _input_ids: Any, scores: Any) -> Any:
            return scores.scatter(1, scores.argmax(-1, keepdim=True), -torch.inf)

    monkeypatch.setattr(model, "generate", partial(model.generate, logits_processor=[NeverTheBest()]))
    rows = generate(model, probes["text"], "greedy", seed=0, with_choices=True).choices["greedy_logits[0]"]
    first = model(**to_tensors(probes["text"], model)).logits[0, -1].topk(2).indices.tolist()
    assert rows[0].token == rows[0].best[0][0] == first[1]


def test_only_a_sketched_fingerprint_holds_them(model: Any, probes: dict[str, Probe]) -> None:
    asked = replace(probes["text"], extras=(), generation=("greedy", "sampled", "static"))
    for sketch in (True, False):
        parts = [part for _, part in behaviour_steps(model, [asked], sketch=sketch)]
        held = {place for part in parts for place in part.choices}
        expected = {f"text/{way}_logits[{i}]" for way in ("greedy", "static") for i in range(NEW_TOKENS)}
        assert held == (expected if sketch else set())


GOOD = Choice(token=3, best=((3, 1.0), (4, 1.0), (2, 0.5)))


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        (replace(GOOD, token=-1), "no id"),
        (replace(GOOD, best=((3, 1.0), (3, 0.5))), "each once"),
        (replace(GOOD, best=tuple((i, 1.0) for i in range(NUM_BEST + 1))), "each once"),
        (replace(GOOD, best=((3, 1.0), (4, 2.0))), "do not fall"),
    ],
)
def test_a_damaged_choice_is_named(choice: Choice, problem: str) -> None:
    assert why_no_choice(GOOD) is None
    assert problem in str(why_no_choice(choice))
