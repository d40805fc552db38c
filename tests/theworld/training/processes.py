"""A run in a process of its own, that may be killed at any moment: forked from a server that has torch imported."""

import json
import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

PRELOAD = ["theworld.training.__main__", "theworld.training.run", "theworld.training.stages", "diffusers"]


def train(config: str, said: str) -> None:
    """Run a config as the command does; what it says goes to a file."""
    import torch

    from theworld.training.__main__ import main

    torch.set_num_threads(1)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import sys

    sys.argv = ["theworld-train", config]
    main()


def start(config: Path, said: Path, target: Any = train) -> Any:
    """Start a run; returns the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=target, args=(str(config), str(said)))
    process.start()
    return process


def kill_until_finished(config: Path, said: Path, *, seed: int, longest: float, most: int) -> int:
    """Start a run again and again, killing it at random moments, until it finishes; returns how many were killed.

    A moment is some time after so many checkpoints, so that a slow machine's runs are killed as far on as a fast one's;
    or some time after the start, whatever the process does by then.

    Args:
        longest: seconds within which a process is killed, after its checkpoints, or its start.
        most: after so many kills, the run is let be.
    """
    draw, killed = random.Random(seed), 0
    folder = Path(json.loads(config.read_text(encoding="utf-8"))["output_dir"])
    while True:
        before, num_new = _checkpoints(folder), draw.randrange(3)
        process = start(config, said)
        waits = killed < most and draw.random() < 0.8
        while waits and len(_checkpoints(folder) - before) < num_new and process.exitcode is None:
            process.join(0.02)
        process.join(draw.uniform(0.0, longest) if killed < most else 300)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
            continue
        if process.exitcode != 0:
            raise AssertionError(f"exit code {process.exitcode}:\n{said.read_text()[-3000:]}")
        return killed


def _checkpoints(folder: Path) -> set[Path]:
    return set(folder.glob("*/checkpoint-*"))
