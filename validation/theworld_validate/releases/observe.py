"""The observing side: run by a release's own Python path, it loads a model there and writes what it sees.

In: a request file. Out: a fingerprint file, and an answer beside it: what loading said, or what raised. Nothing of
`theworld` is imported but its readers of files, and of transformers only what releases from 4.57 on have.

    python -S -P -m theworld_validate.releases.observe REQUEST.json
"""

import gc
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from theworld.checkpoints.written_files import replace_file
from theworld_validate.documents.fingerprint import make_file
from theworld_validate.documents.observations import EMPTY, PROBE_SECTIONS, Fingerprint
from theworld_validate.probes.probe import Probe
from theworld_validate.releases.exchange import load_saved, save_fresh
from theworld_validate.releases.judged import GRADIENTS
from theworld_validate.releases.loading import Loaded, load_twice, load_with
from theworld_validate.releases.probe_files import read_probes
from theworld_validate.releases.requests import Answer, Request, read_request
from theworld_validate.results import InputError, Plan, SubjectRecord
from theworld_validate.subjects.targets import resolve_target

_SECTIONS = ("config", "modules", "parameters", "buffers", "globals", "trace", "outputs", "generation", "gradients")


def main(arguments: list[str]) -> int:
    """Do what a request asks, and write the answer; 0 where there is one, whatever it says."""
    request = read_request(Path(arguments[0]))
    _silence()
    try:
        answer = _do(request)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a release or a candidate raises is what is to be found out
        answer = Answer(failure=_told(error))
    replace_file(Path(request.answer), json.dumps(asdict(answer), indent=1) + "\n")
    return 0


def _do(request: Request) -> Answer:
    import torch

    if request.threads is not None:
        torch.set_num_threads(request.threads)
    resolve_target(request.target)
    gc.freeze()  # what is imported stays; looking through it again and again takes seconds
    if request.saved is not None:
        return Answer(loads={name: load_saved(request, folder) for name, folder in request.saved.items()})
    if request.truth is not None:
        _write(request, _observe_truth(request, request.truth))
        return Answer()
    loaded = load_twice(request)
    _write(request, _observe_whole(request, loaded))
    saved = save_fresh(request) if request.fresh is not None else None
    return Answer(loading=loaded.facts, saved=saved)


def _observe_whole(request: Request, loaded: Loaded) -> Fingerprint:
    """Everything but the round trip; of the model with a narrow window, what its probes give."""
    from theworld_validate.fingerprint.take import observe

    probes = read_probes(Path(request.probes))
    seen: Fingerprint = EMPTY
    for _, part in observe(loaded.model, probes, seed=request.seed, sketch=request.sketch, round_trip=False):
        seen = seen.merge(part)
    if (further := _narrow_probes(request)) and request.narrow is not None:
        narrow = load_with(resolve_target(request.target), request.narrow, request).model
        for _, part in observe(narrow, further, seed=request.seed, sketch=request.sketch, only=PROBE_SECTIONS):
            seen = seen.merge(part)
    return seen


def _observe_truth(request: Request, names: tuple[str, ...]) -> Fingerprint:
    """What some probes give, with sketches, and nothing else."""
    from theworld_validate.fingerprint.take import observe_run

    seen: Fingerprint = EMPTY
    asked = ((request.checkpoint, read_probes(Path(request.probes))), (request.narrow, _narrow_probes(request)))
    for checkpoint, probes in asked:
        chosen = [probe for probe in probes if probe.name in names]
        has_gradients = GRADIENTS in names and checkpoint == request.checkpoint
        if checkpoint is None or not (chosen or has_gradients):
            continue
        model = load_with(resolve_target(request.target), checkpoint, request).model
        runs = [(chosen, PROBE_SECTIONS)] * bool(chosen) + [(probes, (GRADIENTS,))] * has_gradients
        for own, only in runs:
            for _, part in observe_run(model, own, seed=request.seed, sketch=True, only=only):
                seen = seen.merge(part)
    return seen


def _narrow_probes(request: Request) -> tuple[Probe, ...]:
    return () if request.narrow_probes is None else read_probes(Path(request.narrow_probes))


def _write(request: Request, seen: Fingerprint) -> None:
    from theworld_validate.environment import describe_environment

    subject = SubjectRecord(
        role="model" if request.truth is None else "truth",
        target=request.target,
        checkpoint=request.checkpoint,
        dtype=request.dtype,
        device=request.device,
        attn=request.attn,
        seed=request.seed,
    )
    probes = (*read_probes(Path(request.probes)), *_narrow_probes(request))
    names = tuple(probe.name for probe in probes if request.truth is None or probe.name in request.truth)
    plan = Plan(sections=_SECTIONS if request.truth is None else tuple(seen.sections), probes=names)
    made = make_file(seen, subject=subject, environment=describe_environment(), plan=plan)
    replace_file(Path(request.fingerprint), json.dumps(asdict(made), allow_nan=False))  # read by a machine alone


def _silence() -> None:
    """Keep progress bars and advice out of what is printed: that is kept for where something goes wrong."""
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")


def _told(error: BaseException) -> str:
    from theworld.checkpoints.error_text import summary
    from theworld_validate.fingerprint.failures import describe_error

    return summary(error) if isinstance(error, InputError) else describe_error(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
