"""What `parity` runs, with nothing observed or compared: the least that its time can be held against.

    python benchmarks/bare_forwards.py CHECKPOINT [--device cuda]

Loads the reference, runs every probe, generation and the gradients twice, saves it and loads it again; then the same
once with the candidate. The code is parity's own, without its hooks, digests and state.
"""

import argparse
import gc
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from theworld_validate.documents.observations import Fingerprint
from theworld_validate.fingerprint import round_trip
from theworld_validate.fingerprint.digest import DigestQueue
from theworld_validate.fingerprint.take import fingerprint_run
from theworld_validate.fingerprint.trace import Recording, Tracer
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.subjects.checkpoints import read_config
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET
from theworld_validate.workers import preload  # noqa: F401  it keeps the libraries quiet


def nothing(*_args: Any, **_kwargs: Any) -> None:
    """Observe nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    checkpoint = str(options.checkpoint)
    probes = build_probes(read_config(checkpoint), seed=0)
    empty = Fingerprint(
        sections={name: {} for name in ("config", "parameters", "buffers")}, num_bytes={"parameters": 0, "buffers": 0}
    )
    silent = [mock.patch.object(DigestQueue, name, nothing) for name in ("add", "release", "finish")] + [
        mock.patch.object(Tracer, "__enter__", lambda self: self),
        mock.patch.object(Recording, "finish", nothing),
        mock.patch.object(round_trip, "fingerprint_state", return_value=empty),
    ]
    for patch in silent:
        patch.start()
    for target, num_runs in ((REFERENCE_TARGET, 2), (CANDIDATE_TARGET, 1)):
        model = Subject(target=target, checkpoint=checkpoint, device=options.device).load()
        for _ in range(num_runs):
            fingerprint_run(model, probes, seed=0, deterministic=True)
        round_trip.fingerprint_round_trip(model)
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
