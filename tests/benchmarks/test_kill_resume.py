"""The benchmark of killed runs: it goes on from its record, and one round that differs fails it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import kill_resume
from benchmarks.kill_resume import Round


def test_the_record_is_gone_on_from_and_a_round_that_differs_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def run_round(folder: Path, number: int, most: int, expected: Any) -> Round:
        return Round(number=number, kills=most, resumes=1, is_equal=number != 2)

    monkeypatch.setattr(kill_resume, "run_round", run_round)
    monkeypatch.setattr(kill_resume, "write_run", lambda folder, name: folder / name)
    monkeypatch.setattr(kill_resume, "start", lambda config, said: SimpleNamespace(join=lambda: None))
    monkeypatch.setattr(kill_resume, "final", lambda folder, name: {})
    record = tmp_path / "kills.jsonl"
    assert kill_resume.main(10, record) == 0
    assert [one.kills for one in kill_resume.read_record(record)] == [8, 2]
    assert kill_resume.main(20, record) == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[1] == {"rounds": 2, "kills": 10, "went_on_from_a_checkpoint": 2, "rounds_that_differ": 0}
    assert said[-1] == {"rounds": 4, "kills": 20, "went_on_from_a_checkpoint": 4, "rounds_that_differ": 1}
    assert kill_resume.main(20, record) == 1  # nothing is left to run, and the verdict stands
