"""Workers: what delivers, what does not, and that nothing of a subject reaches the judge."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.workers.messages import Answer, Checked, Done, Raised, Step, decode, encode
from theworld_validate.workers.pool import MAX_PRINTED_BYTES, Job, Outcome, Work
from theworld_validate.workers.run import Audit, Run, check_in_worker, check_in_workers, failed_worker

_HERE = "tests.theworld_validate.workers.misbehaving_jobs:"


def do(function: str, *, timeout_seconds: float = 30.0, threads: int | None = None, **arguments: Any) -> Outcome:
    job = Job(name="candidate", function=_HERE + function, arguments=arguments, is_subject=True, threads=threads)
    work = Work([job], timeout_seconds=timeout_seconds)
    list(work.messages())
    (outcome,) = work.outcomes
    return outcome


def test_a_worker_delivers_from_another_process_where_the_caller_is() -> None:
    outcome = do("answers")
    assert outcome.is_whole
    (answer,) = outcome.messages
    assert isinstance(answer, Answer)
    assert answer.values["pid"] != os.getpid()
    assert answer.values["cwd"] == str(Path.cwd())
    assert (outcome.printed, outcome.printed_bytes) == ("hello\n", 6)


@pytest.mark.parametrize(
    ("function", "arguments", "ended"),
    [
        ("exits", {"code": 0}, "ended its process with exit code 0"),
        ("exits", {"code": 3}, "ended its process with exit code 3"),
        ("exits_at_once", {"code": 0}, "ended its process with exit code 0"),
        ("becomes_another_program", {}, "ended its process with exit code 0"),
        ("dies", {"number": signal.SIGSEGV}, "was ended by SIGSEGV"),
        ("dies", {"number": signal.SIGKILL}, "was ended by SIGKILL (out of memory?)"),
        ("closes_everything", {}, "ended its process with exit code"),
    ],
)
def test_what_does_not_say_that_it_is_done_has_not_delivered(
    function: str, arguments: dict[str, Any], ended: str
) -> None:
    outcome = do(function, **arguments)
    assert not outcome.is_whole
    assert outcome.ended is not None
    assert outcome.ended.startswith(ended)
    assert outcome.last_step.startswith("about to")
    check = failed_worker(outcome, check_id="parity.candidate")
    assert check.status is Status.FAILED
    assert ended in check.findings[0].message


def test_a_copy_that_a_subject_forked_tells_the_judge_nothing() -> None:
    outcome = do("forks_and_both_go_on")
    assert outcome.is_whole
    (answer,) = outcome.messages
    assert isinstance(answer, Answer)
    assert answer.values == {"is_the_copy": False}


def test_a_deadline_ends_a_worker_that_ignores_signals() -> None:
    started = time.monotonic()
    outcome = do("hangs", timeout_seconds=1.0)
    assert time.monotonic() - started < 10
    assert outcome.ended == "did not finish within 1 s (--timeout)"


def test_what_is_printed_is_kept_up_to_a_length_with_both_ends() -> None:
    outcome = do("prints_much")
    assert outcome.is_whole
    assert outcome.printed is not None
    assert outcome.printed_bytes == 50 * 100_001 + 8
    assert len(outcome.printed) < MAX_PRINTED_BYTES + 100
    assert outcome.printed.endswith("the end\n")
    assert "bytes left out" in outcome.printed


@pytest.mark.parametrize("name", ["GeneratorExit", "RuntimeError", "StopIteration"])
def test_any_exception_is_the_subjects_with_its_line(name: str) -> None:
    outcome = do("raises", name=name)
    assert outcome.raised is not None
    assert outcome.raised.kind == "subject"
    assert outcome.raised.error == f"{name}: boom"
    assert outcome.raised.place is not None
    assert "misbehaving_jobs.py:" in outcome.raised.place


def test_a_subject_that_limits_tracebacks_is_told_with_its_line_all_the_same() -> None:
    outcome = do("raises_without_a_traceback")
    assert outcome.raised is not None
    assert (outcome.raised.kind, outcome.raised.error) == ("subject", "RuntimeError: boom")
    assert "misbehaving_jobs.py:" in str(outcome.raised.place)
    assert outcome.raised.code == 'raise RuntimeError("boom")'
    assert "misbehaving_jobs.py" in str(outcome.raised.traceback)


def test_a_base_exception_of_its_own_is_caught_too() -> None:
    outcome = do("raises_its_own")
    assert outcome.raised is not None
    assert outcome.raised.error == "Unusual: boom"


def test_a_line_for_the_user_is_raised_as_such() -> None:
    run = Run()
    job = Job(name="files", function=_HERE + "is_told_off")
    with pytest.raises(InputError, match=r"config.json: field x is wrong"):
        run.do([job])


def test_a_subject_without_stdout_still_delivers() -> None:
    assert do("takes_stdout_away").is_whole


def test_what_a_subject_started_is_ended_with_it() -> None:
    outcome = do("leaves_a_child")
    (answer,) = outcome.messages
    assert isinstance(answer, Answer)
    child = answer.values["child"]
    assert isinstance(child, int)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline, "the child is still there"
        time.sleep(0.05)


def test_nothing_of_a_subject_reaches_the_caller() -> None:
    before = Path.cwd()
    assert do("changes_everything").is_whole
    assert Path.cwd() == before
    assert "THEWORLD_TEST_LEAK" not in os.environ


def test_nonsense_is_no_message() -> None:
    assert not do("sends_nonsense").is_whole


def test_threads_are_the_jobs() -> None:
    values = [m.values for m in do("computes", seed=1, threads=1).messages if isinstance(m, Answer)]
    assert values[0]["threads"] == 1
    again = [m.values for m in do("computes", seed=1, threads=1).messages if isinstance(m, Answer)]
    assert values == again


def test_several_workers_at_once_keep_their_order() -> None:
    jobs = [Job(name=str(i), function=_HERE + "computes", arguments={"seed": i}, threads=1) for i in range(4)]
    work = Work(jobs, at_once=2)
    told = [job.name for job, message in work.messages() if isinstance(message, Answer)]
    assert sorted(told) == ["0", "1", "2", "3"]
    assert [outcome.job.name for outcome in work.outcomes] == ["0", "1", "2", "3"]
    assert all(outcome.is_whole for outcome in work.outcomes)


def test_leaving_early_ends_the_workers() -> None:
    work = Work([Job(name="candidate", function=_HERE + "hangs")])
    for _, message in work.messages():
        assert isinstance(message, Step)
        break
    assert "hang" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_check_in_worker_adds_a_check_where_the_worker_failed() -> None:
    job = Job(name="buffers", function=_HERE + "exits", arguments={"code": 0}, is_subject=True)
    (check,) = check_in_worker(Run(), Audit(job=job))
    assert (check.id, check.status) == ("buffers.worker", Status.FAILED)


def test_jobs_side_by_side_give_their_checks_in_the_order_of_the_jobs() -> None:
    """The first is the slowest; the second ends without a word; nobody's checks are lost, and none is out of turn."""
    audits = [
        Audit(job=Job(name="slow", function=_HERE + "checks", arguments={"names": ("a", "b"), "seconds": 1.0})),
        Audit(job=Job(name="gone", function=_HERE + "exits", arguments={"code": 0}, is_subject=True)),
        Audit(job=Job(name="quick", function=_HERE + "checks", arguments={"names": ("c",), "seconds": 0.0})),
    ]
    checks = list(check_in_workers(Run(), audits, at_once=3))
    assert [check.id for check in checks] == ["a", "b", "gone.worker", "c"]


def test_checks_that_come_all_at_once_are_all_given() -> None:
    """A judge that was stopped for a while finds whole jobs done, with all that they said in one batch."""
    audits = [
        Audit(job=Job(name="first", function=_HERE + "checks", arguments={"names": ("a", "b", "c"), "seconds": 0.0})),
        Audit(job=Job(name="second", function=_HERE + "checks", arguments={"names": ("d", "e"), "seconds": 0.0})),
        Audit(job=Job(name="third", function=_HERE + "checks", arguments={"names": ("f",), "seconds": 0.0})),
    ]
    stopped = Run(progress=lambda _step: time.sleep(1.0))
    checks = list(check_in_workers(stopped, audits, at_once=2))
    assert [check.id for check in checks] == ["a", "b", "c", "d", "e", "f"]


def test_a_job_that_makes_no_check_is_an_error() -> None:
    (check,) = check_in_worker(Run(), Audit(job=Job(name="quiet", function=_HERE + "answers")))
    assert (check.id, check.status) == ("quiet.worker", Status.ERROR)


def test_a_wrong_input_costs_no_check_of_the_jobs_before_it() -> None:
    audits = [
        Audit(job=Job(name="slow", function=_HERE + "checks", arguments={"names": ("a",), "seconds": 1.0})),
        Audit(job=Job(name="wrong", function=_HERE + "is_told_off")),
        Audit(job=Job(name="quick", function=_HERE + "checks", arguments={"names": ("c",), "seconds": 0.0})),
    ]
    checks = check_in_workers(Run(), audits, at_once=3)
    assert next(checks).id == "a"
    with pytest.raises(InputError, match=r"config\.json: field x is wrong"):
        next(checks)


def test_an_error_of_the_harness_is_no_fault_of_a_subject() -> None:
    job = Job(name="buffers", function="theworld_validate.no_such_module:nothing", is_subject=True)
    (check,) = check_in_worker(Run(), Audit(job=job))
    assert check.status is Status.ERROR


@pytest.mark.parametrize(
    "message",
    [
        Step(text="a\nb\u202e"),
        Answer(values={"rows": [{"a": 1, "b": [1, 2]}], "none": None}),
        Raised(kind="subject", error="x"),
        Checked(check=CheckResult(id="a.b", status=Status.PASSED, seconds=0.5, measurements={"x_bytes": 3})),
        Done(),
    ],
)
def test_messages_come_back_as_they_were(message: Any) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("data", [b"", b"[]", b'["Step", {}]', b'["Nothing", {}]', b'["Step", {"text": 5}]', b"\xff"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(data)


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from theworld_validate.workers.pool import Job, Work\n"
        "work = Work([Job(name='x', function='theworld_validate.jobs:environment')])\n"
        "list(work.messages())\n"
        "print(work.outcomes[0].is_whole)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.splitlines() == ["once", "True"], done.stderr
