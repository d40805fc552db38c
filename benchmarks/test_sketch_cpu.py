"""A trace with sketches against one of digests alone, on the CPU, in one run: `pytest benchmarks`.

Goal: at most 1.1. A sketch costs a few nanoseconds an element, whatever the width of a model; the product that gives
the element costs as much more as the model is wide. So it shows in the tiny model (width 64), and hardly in one of
the 4B geometry's width (2,560), here as a stack of linear layers.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from theworld.synthetic import cached_checkpoint
from theworld_validate.fingerprint.sketch import SketchBook
from theworld_validate.fingerprint.trace import Recording, Tracer

GOAL = 1.1
NUM_TOKENS = 256


def tiny() -> Callable[[SketchBook | None], float]:
    model = Gemma3ForConditionalGeneration.from_pretrained(cached_checkpoint("tiny").gemma, dtype=torch.float32)
    ids = torch.randint(300, 1000, (1, NUM_TOKENS), generator=torch.Generator().manual_seed(0))
    return lambda sketches: _trace(model, ids, sketches)


def wide() -> Callable[[SketchBook | None], float]:
    width = 2560
    model = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.RMSNorm(width)) for _ in range(4)))
    inputs = torch.randn(1, NUM_TOKENS, width, generator=torch.Generator().manual_seed(0))
    return lambda sketches: _trace(model, inputs, sketches)


def _trace(model: nn.Module, inputs: torch.Tensor, sketches: SketchBook | None) -> float:
    with Tracer(model) as tracer:
        started = time.perf_counter()
        with torch.no_grad(), tracer.record(Recording(sketches=sketches)):
            model(inputs)
        return time.perf_counter() - started


@pytest.mark.parametrize("make", [tiny, wide], ids=["tiny", "width-2560"])
def test_sketched_over_traced(benchmark: Any, make: Callable[[], Any]) -> None:
    trace = make()
    ratios = []

    def pair() -> None:
        ratios.append(trace(SketchBook()) / trace(None))

    benchmark.pedantic(pair, rounds=15, warmup_rounds=3)
    benchmark.extra_info["sketched_over_traced_median"] = statistics.median(ratios)
    benchmark.extra_info["goal"] = GOAL
    print(f"\n{make.__name__}: sketched over traced {statistics.median(ratios):.3f} (goal {GOAL})")
