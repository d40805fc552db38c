"""Observing in a worker against observing in the caller's own process, in one run: `pytest benchmarks`.

Goal: a worker costs at most 0.2 s more, once the server that it is forked from has its libraries imported.
"""

import statistics
import time
from typing import Any

import torch

from theworld.synthetic import cached_checkpoint
from theworld_validate.parity.observing import OBSERVE, observe_subject
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import REFERENCE_TARGET
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run

GOAL_SECONDS = 0.2
PROBES = ("text",)


def test_a_worker_over_the_same_work_here(benchmark: Any) -> None:
    torch.set_num_threads(1)
    subject = Subject(target=REFERENCE_TARGET, checkpoint=str(cached_checkpoint("tiny").gemma))
    arguments = {"loader": subject, "probe_names": PROBES, "control": False}
    job = Job(name="reference", function=OBSERVE, arguments=arguments, is_subject=True, threads=1)
    costs = []

    def here() -> float:
        started = time.perf_counter()
        list(observe_subject(subject, PROBES, control=False))
        return time.perf_counter() - started

    def there() -> float:
        started = time.perf_counter()
        (outcome,) = Run().do([job])
        assert outcome.is_whole
        return time.perf_counter() - started

    def pair() -> None:
        own = here()
        costs.append(there() - own)

    benchmark.pedantic(pair, rounds=10, warmup_rounds=2)
    cost = statistics.median(costs)
    benchmark.extra_info.update(seconds_more=cost, goal_seconds=GOAL_SECONDS)
    print(f"\na worker costs {cost:.3f} s more than observing here (goal {GOAL_SECONDS})")
