"""Jobs that end in every way but the right one; each is a generator of messages, as a worker runs it."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.workers.child import START_ANEW
from theworld_validate.workers.messages import Answer, Checked, Message, Step


def answers() -> Iterator[Message]:
    print("hello")
    yield Step(text="first")
    yield Answer(values={"pid": os.getpid(), "cwd": str(Path.cwd())})


def exits(code: int) -> Iterator[Message]:
    yield Step(text="about to exit")
    sys.exit(code)


def exits_at_once(code: int) -> Iterator[Message]:
    yield Step(text="about to exit")
    os._exit(code)


def exits_as_if_cuda_were_started() -> Iterator[Message]:
    yield Step(text="about to exit")
    os._exit(START_ANEW)


def becomes_another_program() -> Iterator[Message]:
    yield Step(text="about to exec")
    os.execv("/bin/true", ["true"])


def dies(number: int) -> Iterator[Message]:
    yield Step(text="about to die")
    os.kill(os.getpid(), number)
    time.sleep(60)


def forks_and_both_go_on() -> Iterator[Message]:
    yield Step(text="about to fork")
    copy = os.fork()
    yield Answer(values={"is_the_copy": copy == 0})


def hangs() -> Iterator[Message]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield Step(text="about to hang")
    time.sleep(600)


def prints_much() -> Iterator[Message]:
    for _ in range(50):
        print("x" * 100_000)
    os.write(1, b"the end\n")
    yield Answer(values={})


def raises(name: str) -> Iterator[Message]:
    yield Step(text="about to raise")
    raise {"GeneratorExit": GeneratorExit, "StopIteration": StopIteration, "RuntimeError": RuntimeError}[name]("boom")


def raises_without_a_traceback() -> Iterator[Message]:
    yield Step(text="about to raise")
    sys.tracebacklimit = 0
    raise RuntimeError("boom")


def raises_its_own() -> Iterator[Message]:
    class Unusual(BaseException):
        pass

    yield Step(text="about to raise")
    raise Unusual("boom")


def is_told_off() -> Iterator[Message]:
    yield Step(text="reading")
    raise InputError("config.json: field x is wrong")


def closes_everything() -> Iterator[Message]:
    yield Step(text="about to close")
    os.closerange(0, 256)
    time.sleep(0.2)


def takes_stdout_away() -> Iterator[Message]:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    yield Answer(values={})


def leaves_a_child() -> Iterator[Message]:
    child = os.fork()
    if child == 0:
        time.sleep(600)
    yield Answer(values={"child": child})


def changes_everything() -> Iterator[Message]:
    os.chdir("/")
    os.environ["THEWORLD_TEST_LEAK"] = "1"
    yield Answer(values={})


def sends_nonsense() -> Iterator[Message]:
    yield {"not": "a message"}  # type: ignore[misc]


def computes(seed: int) -> Iterator[Message]:
    import torch

    torch.manual_seed(seed)
    product = torch.randn(300, 300).mm(torch.randn(300, 300))
    yield Answer(values={"sum": float(product.sum()), "threads": torch.get_num_threads()})


def checks(names: Sequence[str], seconds: float) -> Iterator[Message]:
    """Take some time, and then make a check for each name."""
    yield Step(text="taking time")
    time.sleep(seconds)
    for name in names:
        yield Checked(check=CheckResult(id=name, status=Status.PASSED, seconds=0.0, measurements={"compared": 1}))
