"""A run in a process of its own, that may be killed at any moment: forked from a server that has torch imported."""

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

    Args:
        longest: seconds within which a process is killed, after it begins to train, or at times before.
        most: after so many kills, the run is let be.
    """
    draw, killed = random.Random(seed), 0
    while True:
        begun = _count_begun(said)
        process = start(config, said)
        waits = killed < most and draw.random() < 0.8
        while waits and _count_begun(said) == begun and process.exitcode is None:
            process.join(0.1)
        process.join(draw.uniform(0.0, longest) if killed < most else 300)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
            continue
        if process.exitcode != 0:
            raise AssertionError(f"exit code {process.exitcode}:\n{said.read_text()[-3000:]}")
        return killed


def _count_begun(said: Path) -> int:
    return said.read_text().count("parameters train") if said.exists() else 0
