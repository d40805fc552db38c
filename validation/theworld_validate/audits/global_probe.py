"""Run in a fresh process: what each import and load changes of the process's global state.

In: from the socket at an address, a list of [plan, file]; a plan is {"baseline": [step, ...], "stages": [[title, step],
...]}, a step {"import": "module"}, {"get": "module:name"} or {"load": {fields of a Subject}}. Out: each file, made by a
fork of its own, of {"stages": [{"stage": title, "changes": {field: [before, after]}, ...}]}, {"error": one line} or
{"input": one line}; or of {"ended": exit code}, where a fork did not come to its end. A stage without a title is not
looked at.

Nothing here imports `theworld` before a stage does: what its own import changes would be over by then. The process is
a new interpreter; or, as `fork_fresh` makes it, one that has no more than that, in half the time.
"""

import contextlib
import hashlib
import importlib
import json
import os
import random
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

from theworld_validate.target import REFERENCE_TARGET

ADDRESS = "THEWORLD_VALIDATE_FRESH"  # the environment variable that tells a fork where the judge listens
# What every plan's baseline begins with.
_COMMON = ({"import": "torch"}, {"get": REFERENCE_TARGET})


def observe() -> dict[str, Any]:
    """Everything global that an import or a load may change; environment variables by digest, never by value."""
    import numpy as np
    import torch

    from theworld_validate.fingerprint.global_state import observe_globals

    state = {name: seen["value"] for name, seen in observe_globals().items()}
    state.pop("cublas_workspace_config", None)  # among the environment variables
    state.update(
        num_interop_threads=torch.get_num_interop_threads(),
        rng_state_numpy=_digest(np.random.get_state()),
        rng_state_python=_digest(random.getstate()),
        warnings_filters=_digest(warnings.filters),
    )
    state.update({f"environment.{name}": _digest(value) for name, value in os.environ.items()})
    return state


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[Any]]:
    """The fields that differ: [before, after]; None where there was none."""
    names = sorted(before.keys() | after.keys())
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def run_step(step: dict[str, Any]) -> None:
    """Import a module, get a name out of one (lazy packages import then), or load a subject."""
    if "import" in step:
        importlib.import_module(step["import"])
    elif "get" in step:
        module, _, name = step["get"].partition(":")
        getattr(importlib.import_module(module), name)
    else:
        from theworld_validate.subjects.subject import Subject

        Subject(**step["load"]).load()


def main(address: str) -> None:
    """Import what everything builds on, and follow plans."""
    for step in _COMMON:
        run_step(step)
    follow_plans(address)


def follow_plans(address: str) -> None:
    """Have a fork follow each plan that the judge gives at an address, and wait for all. The connection's end is ours.

    The process id is said first, so that the judge can end this process and its forks.
    """
    with socket.socket(socket.AF_UNIX) as judge:
        judge.connect(address)
        judge.sendall(f"{os.getpid()}\n".encode())
        with judge.makefile("rb") as file:
            plans = file.read()
        forks = {Path(result): _fork(plan, Path(result), judge) for plan, result in json.loads(plans or b"[]")}
        for result, pid in forks.items():
            _, status = os.waitpid(pid, 0)
            if not result.exists():
                _write(result, {"ended": os.waitstatus_to_exitcode(status)})


def become_fresh() -> None:
    """Leave the process that this one was forked from: its session, its signals, its files and its terminal."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    with contextlib.suppress(OSError):
        for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208
            if descriptor > 2:
                with contextlib.suppress(OSError):  # the listing's own
                    os.close(descriptor)


def _fork(plan: dict[str, Any], result: Path, judge: socket.socket) -> int:
    """Follow a plan in a fork; return its process id."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            judge.close()  # what a subject leaves behind does not keep it open
            _deliver(plan, result)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            os._exit(code)
    return pid


def _deliver(plan: dict[str, Any], result: Path) -> None:
    from theworld_validate.results import InputError

    sys.path.insert(0, str(Path.cwd()))
    try:
        delivered: dict[str, Any] = {"stages": _follow(plan)}
    except InputError as error:
        delivered = {"input": str(error)}
    except Exception as error:
        from theworld.checkpoints.bounded_files import one_line

        delivered = {"error": one_line(f"{type(error).__name__}: {error}")}
    _write(result, delivered)


def _write(result: Path, delivered: dict[str, Any]) -> None:
    beside = result.with_suffix(".part")
    beside.write_text(json.dumps(delivered), encoding="utf-8")
    beside.replace(result)  # whole, or not there: who waits for it may lose patience


def _follow(plan: dict[str, Any]) -> list[dict[str, Any]]:
    for step in plan["baseline"]:
        run_step(step)
    seen = []
    for title, step in plan["stages"]:
        if title is None:
            run_step(step)
            continue
        observe()  # imports what observing needs
        before, is_new = observe(), _is_new(step)
        run_step(step)
        # How many environment variables there are is up to who runs this: a count that is held against a baseline.
        compared = sum(not name.startswith("environment.") for name in before)
        seen.append({"stage": title, "changes": changes(before, observe()), "compared": compared, "is_new": is_new})
    return seen


def _is_new(step: dict[str, Any]) -> bool:
    """Whether a step imports a module for the first time, or loads: what was there before shows nothing any more."""
    module = step.get("import") or step.get("get", "").partition(":")[0]
    return module not in sys.modules


if __name__ == "__main__":
    main(sys.argv[1])
