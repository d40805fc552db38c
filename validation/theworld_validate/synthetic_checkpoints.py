"""Synthetic checkpoints, written by a worker: the embedded tiny one in the cache, and those that a user asks for.

In: a run, and what is to be written. Out: the folders of Gemma and of Cosmos.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

from theworld.vae_geometries import DEFAULT_VAE
from theworld_validate import jobs
from theworld_validate.results import InputError
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, ask


def prepare_tiny(run: Run) -> tuple[str, str]:
    """The embedded tiny checkpoints, written first where they are not in the cache: of Gemma and of Cosmos.

    Raises:
        InputError: if the cache folder cannot be used.
    """
    from theworld.synthetic import COSMOS_FOLDER, GEMMA_FOLDER, cache_folder

    try:
        folder = cache_folder("tiny")
        is_there = folder.is_dir()
    except (OSError, RuntimeError) as error:  # no home, or none that can be looked into
        raise InputError(f"the cache folder for the tiny checkpoint: {error}; set THEWORLD_CACHE") from error
    if not is_there:
        run.progress("preparing the tiny checkpoint")
        try:
            write_synthetic(run, size="tiny", directory=folder, seed=0, device="cpu")
        except InputError as error:
            if not folder.is_dir():  # not merely another process that was first
                raise InputError(f"the cache folder for the tiny checkpoint: {error}; set THEWORLD_CACHE") from error
    return str(folder / GEMMA_FOLDER), str(folder / COSMOS_FOLDER)


def write_synthetic(
    run: Run,
    *,
    size: str,
    directory: Path,
    seed: int,
    device: str,
    vae: str = DEFAULT_VAE,
    pipeline: str | None = None,
) -> tuple[str, str]:
    """Write a synthetic checkpoint; return its Gemma and its Cosmos folder. Nothing half-written is left.

    Raises:
        InputError: if the folder cannot be used.
    """
    from theworld.checkpoints.error_text import one_line

    with contextlib.ExitStack() as stack:
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            # The judge's, and not the worker's, which may be killed.
            scratch = tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name[:100]}-")
        except OSError as error:
            raise InputError(f"{one_line(directory)}: cannot write there ({error.strerror})") from error
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        arguments = {
            "size": size,
            "vae": vae,
            "directory": str(directory),
            "scratch": scratch,
            "seed": seed,
            "device": device,
            "pipeline": pipeline,
        }
        values = ask(run, Job(name="synth", function=jobs.job_name(jobs.synth), arguments=arguments))
    return str(values["gemma"]), str(values["cosmos"])
