"""A library that starts CUDA in the fork server costs time, and no worker its GPU."""

import ctypes
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from theworld_validate.workers.cuda_state import cuda_is_started

# What multiprocessing starts anew imports the tests' jobs, as the fork server does.
_SCRIPT = """
import json, os
from theworld_validate.workers import pool
pool._PRELOAD = [PRELOAD]
jobs = [pool.Job(name=name, function="tests.theworld_validate.workers.misbehaving_jobs:FUNCTION") for name in "ab"]
work = pool.Work(jobs, timeout_seconds=120)
list(work.messages())
found = [[outcome.is_whole, outcome.ended, outcome.raised and outcome.raised.error, outcome.printed,
          [message.values for message in outcome.messages]] for outcome in work.outcomes]
print(json.dumps({"forks": pool._Worker.forks, "found": found}))
"""


def run(preload: str, function: str) -> Any:
    script = _SCRIPT.replace("PRELOAD]", f"{preload!r}]").replace("FUNCTION", function)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def test_workers_are_started_anew_where_the_server_has_started_cuda() -> None:
    answer = run("tests.theworld_validate.workers.preload_with_cuda", "answers")
    assert answer["forks"] is False
    for is_whole, ended, raised, printed, values in answer["found"]:
        assert (is_whole, ended, raised, printed) == (True, None, None, "hello\n")
        assert values[0]["cwd"] == os.getcwd()  # noqa: PTH109
    assert len({values[0]["pid"] for *_, values in answer["found"]}) == 2


def test_a_subject_that_ends_with_that_exit_code_is_not_tried_again() -> None:
    answer = run("theworld_validate.workers.preload", "exits_as_if_cuda_were_started")
    assert answer["forks"] is True
    assert [one[:2] for one in answer["found"]] == [[False, "ended its process with exit code 75"]] * 2


@pytest.mark.parametrize(("code", "is_started"), [(0, True), (3, False), (100, False)])
def test_the_driver_says_whether_it_was_started(monkeypatch: pytest.MonkeyPatch, code: int, is_started: bool) -> None:
    driver = SimpleNamespace(cuDeviceGetCount=lambda count: code)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert cuda_is_started() is is_started


def test_without_a_driver_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert cuda_is_started() is False
