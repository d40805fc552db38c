"""The server of observing processes: it imports torch once, which all releases share, and forks a process for each.

In: lines of JSON on stdin, `{"start": NAME, "request": FILE, "site": FOLDER, "said": FILE}` and `{"kill": NAME}`. Out:
lines on stdout, `{"started": NAME}` and `{"ended": NAME, "code": N, "processor_seconds": S}`, with a negative number
for a signal. When stdin ends, it ends what still runs, and itself.

A release's folder comes first on the path of its process. Where that folder holds something that the server has
imported already, the process starts Python anew: no release is ever seen with another one's modules.

    python -S -P -m theworld_validate.releases.forking
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

OBSERVE = "theworld_validate.releases.observe"
# By name: nothing here uses them. torch is most of what a process would spend on starting.
_SHARED_BY_ALL = (
    "torch",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "theworld_validate.environment",
    "theworld_validate.fingerprint.take",
    OBSERVE,
)
_POLL_SECONDS = 0.05
_IN, _OUT, _SAID = 0, 1, 2
_READ_BYTES = 65_536


def serve() -> None:
    """Do what stdin says until it ends."""
    out = os.dup(_OUT)  # where nothing that is imported prints
    os.dup2(_SAID, _OUT)
    preload()
    running: dict[int, str] = {}  # process -> the name that the judge has for it
    waiting = b""
    try:
        while True:
            readable, _, _ = select.select([_IN], [], [], _POLL_SECONDS)
            if readable:
                read = os.read(_IN, _READ_BYTES)
                if not read:
                    return
                *lines, waiting = (waiting + read).split(b"\n")
                for line in lines:
                    _do(json.loads(line), running, out)
            _tell_ended(running, out)
    finally:
        for process in running:
            _kill(process)


def preload() -> None:
    """Import what every release has from the running environment; nothing of it is run, and CUDA is not touched."""
    for name in _SHARED_BY_ALL:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is imported is not looked through again, so that processes share its memory


def _do(command: dict[str, Any], running: dict[int, str], out: int) -> None:
    if "kill" in command:
        for process in [process for process, name in running.items() if name == command["kill"]]:
            _kill(process)
        return
    process = os.fork()
    if not process:
        os.close(out)
        _become(command)
    running[process] = command["start"]
    _tell(out, {"started": command["start"]})


def _tell_ended(running: dict[int, str], out: int) -> None:
    while running:
        process, status, usage = os.wait4(-1, os.WNOHANG)
        if not process:
            return
        if (name := running.pop(process, None)) is not None:
            code = os.waitstatus_to_exitcode(status)
            _tell(out, {"ended": name, "code": code, "processor_seconds": usage.ru_utime + usage.ru_stime})


def _tell(out: int, message: dict[str, Any]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _kill(process: int) -> None:
    """End a process with all that it started."""
    for end in (os.killpg, os.kill):  # it may not have a group of its own yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(process, signal.SIGKILL)


def _become(command: dict[str, Any]) -> None:
    """Be the process of one release, and never come back; what it returns or raises is its exit code."""
    code = 1
    try:
        os.setsid()
        _redirect(command["said"])
        os.environ["PYTHONPATH"] = os.pathsep.join([command["site"], os.environ.get("PYTHONPATH", "")])
        if imported_from(Path(command["site"])):
            os.execv(sys.executable, [sys.executable, "-S", "-P", "-m", OBSERVE, command["request"]])
        sys.path.insert(0, command["site"])
        from theworld_validate.releases.observe import main

        code = main([command["request"]])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # as Python itself would say of it
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _redirect(said: str) -> None:
    """Have nothing of the server's: no input, and the output in a file."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for own, other in ((_IN, nothing), (_OUT, file), (_SAID, file)):
        os.dup2(other, own)
    os.close(nothing)
    os.close(file)


def imported_from(site: Path) -> set[str]:
    """The packages and modules of a folder that are imported already, from wherever."""
    held = {path.name.partition(".")[0] for path in site.iterdir() if not path.name.endswith((".dist-info", ".data"))}
    return held & {name.partition(".")[0] for name in sys.modules}


if __name__ == "__main__":
    serve()
