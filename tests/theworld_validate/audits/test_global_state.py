"""The globals audit: theworld changes nothing, and a module that does is named with what it changes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate import run_suite, suite
from theworld_validate.audits import global_state
from theworld_validate.audits.fresh_process import FreshProcess
from theworld_validate.audits.global_probe import changes, observe
from theworld_validate.audits.global_state import check_globals, judge_stages
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.target import Target
from theworld_validate.workers.run import Run

ROOT = Path(__file__).parents[3]
RUDE = "tests.theworld_validate.audits.rude_module"


def test_theworld_changes_nothing_and_a_rude_module_is_named(tiny: SyntheticCheckpoint) -> None:
    target = Target(checkpoint=str(tiny.gemma), cosmos=str(tiny.cosmos), dtype="float32")
    ours, cosmos, rude = check_globals(target, modules=[RUDE], run=Run())
    assert (ours.status, cosmos.status, rude.status) == (Status.PASSED, Status.PASSED, Status.FAILED)
    assert ours.measurements["stages"] == 4
    assert {finding.severity for finding in (*ours.findings, *cosmos.findings)} <= {"warning"}
    changed = {finding.location: finding for finding in rude.findings}
    assert set(changed) >= {
        "grad_enabled",
        "default_dtype",
        "float32_matmul_precision",
        "cuda_matmul_allow_tf32",
        "deterministic_algorithms",
        "cudnn_benchmark",
        "num_threads",
        "rng_state_cpu",
        "rng_state_python",
        "environment.RUDE",
    }
    assert changed["environment.RUDE"].severity == "warning"
    assert "secret" not in str(rude)
    of_filters = [finding for finding in (*ours.findings, *cosmos.findings) if finding.location == "warnings_filters"]
    assert of_filters
    for finding in of_filters:
        assert "no number changes" in str(finding.cause)
        assert "none is needed" in str(finding.remedy)
    assert changed["grad_enabled"].message == f"import {RUDE}: grad_enabled was True and is False"


@pytest.fixture
def with_a_rude_theworld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started now find a theworld whose own import sets a flag."""
    shutil.copytree(ROOT / "theworld", tmp_path / "theworld")
    with (tmp_path / "theworld" / "__init__.py").open("a") as file:
        file.write("\nimport torch\n\ntorch.use_deterministic_algorithms(True)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("with_a_rude_theworld")
def test_what_theworlds_own_import_changes_is_seen(tiny: SyntheticCheckpoint) -> None:
    """The harness itself uses theworld, so it must not have imported it before it looks."""
    (check,) = check_globals(Target(checkpoint=str(tiny.gemma), dtype="float32"), run=Run())
    assert check.status is Status.FAILED
    (finding,) = [finding for finding in check.findings if finding.severity == "error"]
    assert finding.message == "import theworld: deterministic_algorithms was False and is True"


@pytest.mark.usefixtures("with_a_rude_theworld")
def test_it_is_seen_where_the_process_is_a_fork_of_the_workers_server(tiny: SyntheticCheckpoint) -> None:
    """As the command without arguments has it: the server imports theworld too, after the fork."""
    arguments = ("--only", "globals", "--only", "files", "--dtype", "float32", "--json", "--quiet")
    command = [sys.executable, "-m", "theworld_validate", "--model", str(tiny.gemma), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {check["id"]: check for check in json.loads(ended.stdout)["checks"]}
    assert (ended.returncode, found["files.keys"]["status"]) == (1, "passed")
    (finding,) = [one for one in found["globals.theworld"]["findings"] if one["severity"] == "error"]
    assert finding["message"] == "import theworld: deterministic_algorithms was False and is True"


def test_an_import_that_was_made_before_shows_nothing(tiny: SyntheticCheckpoint) -> None:
    _, check = check_globals(Target(checkpoint=str(tiny.gemma)), modules=["torch"], run=Run())
    assert check.status is Status.INCONCLUSIVE
    assert check.reason == "import torch: it had been imported before, so that nothing of it could be seen"


def test_only_a_new_branch_may_draw_random_numbers() -> None:
    def stage(title: str) -> dict[str, object]:
        return {"stage": title, "changes": {"rng_state_cpu": ["a", "b"]}, "compared": 60, "is_new": True}

    assert judge_stages("globals.x", [stage("load with the branch on")], seconds=0.0).status is Status.PASSED
    assert judge_stages("globals.x", [stage("load with the branch off")], seconds=0.0).status is Status.FAILED
    assert judge_stages("globals.x", [], seconds=0.0).status is Status.INCONCLUSIVE


def test_modules_that_cannot_be_imported(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ends its process, with exit code 0 too, is a failed check; one that raises is one line."""
    (tmp_path / "leaves.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(global_state, "_theworld_plan", lambda target: {"baseline": [], "stages": []})
    checks = check_globals(Target(checkpoint=str(tiny.gemma)), modules=["leaves", "nowhere.to_be"], run=Run())
    nothing, left = next(checks), next(checks)
    assert (nothing.id, nothing.status) == ("globals.theworld", Status.INCONCLUSIVE)
    assert (left.id, left.status) == ("globals.leaves", Status.FAILED)
    (finding,) = left.findings
    assert finding.message == "leaves: ended its process with exit code 0 before it had delivered"
    with pytest.raises(InputError, match=r"--import nowhere\.to_be: ModuleNotFoundError: No module named 'nowhere'"):
        next(checks)


def test_processes_that_take_too_long_are_failed_checks(tiny: SyntheticCheckpoint) -> None:
    checks: list[CheckResult] = list(
        check_globals(Target(checkpoint=str(tiny.gemma)), modules=["json"], run=Run(timeout_seconds=0.01))
    )
    assert {check.status for check in checks} == {Status.FAILED}
    assert [check.findings[0].message for check in checks] == [
        "theworld: did not finish in time (--timeout)",
        "json: did not finish in time (--timeout)",
    ]


_AHEAD = """
import time
from pathlib import Path
from theworld_validate import run_suite, suite
from theworld_validate.workers.pool import _server_pid

def look(pid):  # its state and its parent; a server that is still importing does not collect what has ended
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rpartition(")")[2].split()[:2] if stat.exists() else ["Z", ""]

groups = suite.GROUPS["globals"], suite.GROUPS["files"]
with run_suite.start_ahead(groups) as process:
    assert process._process is None and process._accept(seconds=60.0)
    state, parent = look(process._pid)
    assert state != "Z" and parent == str(_server_pid()), "a fork of the server"
for _ in range(100):
    if look(process._pid)[0] == "Z":
        break
    time.sleep(0.1)
else:
    raise SystemExit("it lives on")
with run_suite.start_ahead(groups) as process:
    assert process._process is not None, "the server has imported theworld by now"
    second = process._process
assert second.returncode == -9
"""

_SERVER_GONE = """
import os, signal, time
from theworld_validate import run_suite, suite
from theworld_validate.workers import pool
with run_suite.start_ahead((suite.GROUPS["globals"], suite.GROUPS["files"])) as process:
    assert pool.server_is_running()
    os.kill(pool._server_pid(), signal.SIGKILL)  # while it imports, before it forks
    process.follow({"theworld": {"baseline": [], "stages": []}})
    began = time.monotonic()
    (end,) = process.ends(timeout_seconds=600.0).values()
    assert time.monotonic() - began < 60
    assert end.ended == "was ended before it had delivered", end
assert not pool.server_is_running()
"""


def test_a_server_that_died_is_not_waited_for() -> None:
    subprocess.run([sys.executable, "-c", _SERVER_GONE], check=True, timeout=120)


def test_a_process_that_was_started_ahead_ends_with_its_block() -> None:
    """Also where nothing is asked of it: a target that cannot be used, an interrupt."""
    subprocess.run([sys.executable, "-c", _AHEAD], check=True, timeout=120)
    for alone in ("globals", "files"):
        with run_suite.start_ahead((suite.GROUPS[alone],)) as process:
            assert process is None


def test_a_process_that_is_killed_is_a_failed_check(tiny: SyntheticCheckpoint) -> None:
    process = FreshProcess()
    assert process._process is not None
    os.killpg(process._process.pid, signal.SIGKILL)
    (check,) = check_globals(Target(checkpoint=str(tiny.gemma)), run=Run(), process=process)
    assert check.status is Status.FAILED
    assert check.findings[0].message == "theworld: ended its process with exit code -9 before it had delivered"


def test_changes_are_before_and_after() -> None:
    assert changes({"a": 1, "b": 2}, {"a": 1, "c": 3}) == {"b": [2, None], "c": [None, 3]}


def test_environment_variables_are_observed_by_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = observe()
    monkeypatch.setenv("THEWORLD_TEST_SECRET", "hunter2")
    after = observe()
    assert set(changes(before, after)) == {"environment.THEWORLD_TEST_SECRET"}
    assert "hunter2" not in str(after)
