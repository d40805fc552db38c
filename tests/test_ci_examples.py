"""The workflows and the hook that docs/ci.md gives away: their commands are run, in their order, in an empty folder."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.theworld_validate.command_line import invoke
from theworld.synthetic import SyntheticCheckpoint

CI = Path(__file__).parent.parent / "docs" / "ci"


def read(name: str) -> Any:
    return yaml.safe_load((CI / name).read_text(encoding="utf-8"))


def jobs() -> dict[str, list[str]]:
    """The lines of shell of every job."""
    github = read("github-actions.yml")["jobs"]
    gitlab = {name: job for name, job in read("gitlab-ci.yml").items() if isinstance(job, dict) and "script" in job}
    lines = {f"github-{name}": [step["run"] for step in job["steps"] if "run" in step] for name, job in github.items()}
    return lines | {f"gitlab-{name}": job["script"] for name, job in gitlab.items()}


def commands(lines: list[str]) -> list[tuple[list[str], set[int]]]:
    """The product's own commands of a job, each with the exit codes that let the job go on."""
    found = [re.search(r"theworld-validate ([^|&]*)(\|\| test \$\? -eq (\d))?", line) for line in lines]
    return [(shlex.split(match[1]), {0, *map(int, filter(None, [match[3]]))}) for match in found if match]


def run(words: list[str], tiny: SyntheticCheckpoint) -> int:
    put_in = {"my_package:MyModel": "theworld:TheWorld", "$MODEL": str(tiny.gemma), "cuda": "cpu"}
    few = ("--probe", "text") if words[0] == "parity" and "--probe" not in words else ()
    return invoke(*(put_in.get(word, word) for word in words), *few).exit_code


def test_every_job_asks_the_same() -> None:
    asked = {name: commands(lines) for name, lines in jobs().items()}
    assert set(asked) == {"github-cpu", "github-gpu", "gitlab-validate-cpu", "gitlab-validate-gpu"}
    for name, its in asked.items():
        assert [words[0] for words, _ in its] == ["parity", "regress", "regress"], name
        assert [codes for _, codes in its] == [{0}, {0, 3}, {0}], name
        assert its[1:] == asked["github-cpu"][1:]
        added = set(its[0][0]) ^ set(asked["github-cpu"][0][0])
        assert added == ({"--model", "$MODEL", "--device", "cuda", "--dtype", "float32"} if "gpu" in name else set())
    assert "\n".join(line for line in jobs()["github-cpu"] if "regress" in line) in (CI.parent / "ci.md").read_text()


def test_a_job_passes_makes_its_baseline_and_holds_the_next_against_it(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = jobs()["github-cpu"]
    assert "mkdir -p baselines" in lines
    Path("baselines").mkdir()
    parity, compare, update = (words for words, _ in commands(lines))
    assert [run(words, tiny) for words in (parity, compare, update, compare)] == [0, 3, 0, 0]
    (baseline,) = Path("baselines").glob("*/report.json")
    text = baseline.read_text()
    baseline.write_text(text.replace('"parity.config"', '"parity.was_there"'))
    assert run(compare, tiny) == 1  # a check is gone


def test_only_the_main_branch_changes_the_baseline() -> None:
    steps = read("github-actions.yml")["jobs"]["cpu"]["steps"]
    changing = [step for step in steps if "--update" in step.get("run", "") or "cache/save" in step.get("uses", "")]
    assert len(changing) == 2
    assert {step["if"] for step in changing} == {"github.ref == 'refs/heads/main'"}


def test_actions_are_those_of_the_project_and_pinned() -> None:
    steps = [step for job in read("github-actions.yml")["jobs"].values() for step in job["steps"]]
    used = {step["uses"] for step in steps if "uses" in step}
    assert len(used) == 5
    assert all(re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", action) for action in used)


def test_the_hook_passes(tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (hook,) = read("pre-commit-config.yaml")["repos"][0]["hooks"]
    assert hook["pass_filenames"] is False
    assert run(shlex.split(hook["entry"])[1:], tiny) == 0
