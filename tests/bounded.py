"""Readers called in processes of bounded memory and time: `python -m tests.bounded`.

In: on stdin, a JSON list of readers ("module:function") and paths. Out: one `Answer` each, from a process of its own
that may take `MAX_BYTES` more than it had and `MAX_SECONDS` of a processor.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 30
MAX_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a reader answered.

    Args:
        kind: "read", "refused" (`ValueError`, `InputError`), another error's name, or the signal that ended it.
        text: the error's.
        seconds: of a processor.
    """

    kind: str
    text: str
    seconds: float


def read_bounded(readers: Sequence[tuple[str, Path]]) -> list[Answer]:
    """Call each reader with its path."""
    asked = json.dumps([(reader, str(path)) for reader, path in readers])
    command = [sys.executable, "-m", "tests.bounded"]
    done = subprocess.run(command, input=asked, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [Answer(**answer) for answer in json.loads(done.stdout)]


def main() -> None:
    """Answer what stdin asks."""
    asked = [(_find(reader), Path(path)) for reader, path in json.load(sys.stdin)]
    for warm in dict.fromkeys(reader for reader, _ in asked):  # what it imports counts for none of its files
        _answer(warm, Path("/nonexistent"))
    print(json.dumps([_in_a_process(reader, path) for reader, path in asked]))


def _find(name: str) -> Callable[[Path], object]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _in_a_process(reader: Callable[[Path], object], path: Path) -> dict[str, Any]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES,) * 2)
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + MAX_SECONDS + 1,) * 2)
        try:
            os.write(write_end, json.dumps(_answer(reader, path)).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    if answer:
        return json.loads(answer)
    return {"kind": f"signal {os.WTERMSIG(status)}", "text": "", "seconds": float(MAX_SECONDS)}


def _answer(reader: Callable[[Path], object], path: Path) -> dict[str, Any]:
    from theworld_validate.results import InputError

    start = time.process_time()
    kind, text = "read", ""
    try:
        reader(path)
    except (InputError, ValueError) as error:
        kind, text = "refused", str(error)
    except BaseException as error:
        kind, text = type(error).__name__, str(error)
    return {"kind": kind, "text": text[:3000], "seconds": time.process_time() - start}


if __name__ == "__main__":
    main()
