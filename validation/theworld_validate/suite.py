"""What the commands run: checks put together from the options of the command line."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from theworld_validate.documents.fingerprint import FingerprintFile, read_fingerprint
from theworld_validate.environment import describe_environment
from theworld_validate.fingerprint.take import take_fingerprint
from theworld_validate.parity.check import check_control, check_parity, compare_fingerprints
from theworld_validate.probes.gemma3 import build_probes, choose_probes
from theworld_validate.results import CheckResult, InputError, did_you_mean
from theworld_validate.subjects.subject import CANDIDATE_TARGET, REFERENCE_TARGET, Subject, read_config
from theworld_validate.world.check import check_world, read_clip

Progress = Callable[[str], None]


def check_parity_of(
    checkpoint: str,
    *,
    device: str,
    dtype: str,
    attn: str | None,
    seed: int,
    progress: Progress,
    reference: str = REFERENCE_TARGET,
    candidate: str = CANDIDATE_TARGET,
    probe_names: Sequence[str] = (),
    save_to: Path | None = None,
) -> tuple[CheckResult, ...]:
    """Compare two targets on one checkpoint; see `parity.check_parity`.

    Raises:
        InputError: if a subject cannot be loaded, or no probe has a name.
    """
    probes = choose_probes(build_probes(read_config(checkpoint), seed=seed), probe_names)
    loading: dict[str, Any] = {
        "checkpoint": checkpoint,
        "device": device,
        "dtype": dtype,
        "attn": attn,
        "seed": seed,
    }
    return check_parity(
        Subject(target=reference, **loading),
        Subject(target=candidate, **loading),
        probes,
        save_to=save_to,
        progress=progress,
    )


def make_fingerprint(
    checkpoint: str, *, target: str, progress: Progress, deterministic: bool = True, **loading: Any
) -> FingerprintFile:
    """Load one target and observe everything about it."""
    probes = build_probes(read_config(checkpoint), seed=loading["seed"])
    subject = Subject(target=target, checkpoint=checkpoint, **loading)
    progress("loading")
    fingerprint = take_fingerprint(
        subject.load(), probes, seed=subject.seed, deterministic=deterministic, progress=progress
    )
    return FingerprintFile(fingerprint=fingerprint, subject=asdict(subject), environment=describe_environment())


def check_parity_isolated(
    checkpoint: str, *, reference: str, candidate: str, progress: Progress, **loading: Any
) -> tuple[CheckResult, ...]:
    """Compare two targets, each in a process of its own; the control is a second process of the reference.

    Raises:
        InputError: if a process cannot load its subject.
    """
    with tempfile.TemporaryDirectory(prefix="theworld-isolated-") as scratch:
        files = []
        # The candidate first: a name that is wrong is most often its own.
        for name, target in (("candidate", candidate), ("reference", reference), ("control", reference)):
            progress(f"{name}, in its own process")
            path = Path(scratch, f"{name}.json")
            _run_fingerprint_process(checkpoint, target, path, **loading)
            files.append(read_fingerprint(path))
    actual, expected, control = (file.fingerprint for file in files)
    return compare_fingerprints(expected, actual, check_control(expected, control, seconds=0.0), seconds=0.0)


def _run_fingerprint_process(
    checkpoint: str, target: str, path: Path, *, device: str, dtype: str, attn: str | None, seed: int
) -> None:
    command = [sys.executable, "-m", "theworld_validate", "fingerprint", "--target", target, "--model", checkpoint]
    command += ["--device", device, "--dtype", dtype, "--seed", str(seed), "--output", str(path), "--quiet"]
    command += ["--attn", attn] if attn is not None else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(lines[0].removeprefix("error: "))


def check_selftest(
    checkpoint: str, *, progress: Progress, names: Sequence[str] = (), num_base_runs: int | None = None, **loading: Any
) -> tuple[CheckResult, ...]:
    """Run the self-test on one checkpoint; all faults, or those named.

    Raises:
        InputError: if a name is not in the catalogue.
    """
    from theworld_validate.faults.catalogue import CATALOGUE
    from theworld_validate.faults.selftest import NUM_BASE_RUNS, run_selftest

    unknown = [name for name in names if name not in CATALOGUE]
    if unknown:
        hint = did_you_mean(unknown[0], CATALOGUE, otherwise="; theworld-validate selftest --list shows them")
        raise InputError(f"--fault {unknown[0]}: no such fault{hint}")
    probes = build_probes(read_config(checkpoint), seed=loading["seed"])
    return run_selftest(
        Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, **loading),
        probes,
        faults=[CATALOGUE[name] for name in names] or None,
        num_base_runs=NUM_BASE_RUNS if num_base_runs is None else num_base_runs,
        progress=progress,
    )


def check_world_of(
    checkpoint: str, cosmos: str, *, frames: Path | None = None, progress: Progress, **loading: Any
) -> tuple[CheckResult, ...]:
    """Check the world path, on a clip from a file if one is named; see `world.check_world`."""
    clip = None if frames is None else read_clip(frames)
    return check_world(checkpoint, cosmos, clip=clip, progress=progress, **loading)


def write_synthetic(size: str, directory: Path, *, seed: int, device: str) -> Any:
    """Write a synthetic checkpoint, with a progress bar on stderr.

    Raises:
        InputError: if the folder cannot be used.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    from theworld.synthetic import write_checkpoint

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"writing {size}", total=None)
        try:
            return write_checkpoint(
                size,
                directory,
                seed=seed,
                device=device,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except (ValueError, OSError) as error:
            raise InputError(str(error)) from error


def print_doctor(*, as_json: bool) -> None:
    """Print the environment, and which checks can run on this machine."""
    environment = describe_environment()
    can_run = {
        "parity": True,
        "world": environment["packages"]["diffusers"] is not None,
        "on a GPU": environment["gpu"] is not None,
    }
    if as_json:
        print(json.dumps({"environment": environment, "can_run": can_run}, indent=2))
        return
    for name, value in {**environment.pop("packages"), **environment}.items():
        print(f"{name:14} {'-' if value is None else value}")
    for name, possible in can_run.items():
        print(f"can run {name}: {'yes' if possible else 'no'}")
