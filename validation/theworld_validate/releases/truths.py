"""Truths: what a release gives in a wider dtype, for the probes that the next release answers with other bits.

In: what was seen of releases in order. Out: a `Truth` for each that its neighbour is to be judged by. It is made by the
earlier release itself: another one's truth would have in it what was changed between the two, as if that were rounding.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from theworld_validate.compare.rounding import WIDER
from theworld_validate.documents.fingerprint import read_fingerprint
from theworld_validate.releases.environments import Overlay
from theworld_validate.releases.observing import Asked, request_of, run_all, share_cores
from theworld_validate.releases.processes import Done, Server, Task
from theworld_validate.releases.seen import Seen, Truth
from theworld_validate.releases.verdicts import probes_to_settle
from theworld_validate.results import InputError
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.run import Run


def make_truths(
    seen: Sequence[Seen],
    probes: tuple[str, ...],
    subject: Subject,
    asked: Asked,
    overlays: dict[str, Overlay],
    folder: Path,
    run: Run,
    server: Server,
) -> dict[str, Truth]:
    """Have each release that the next one differs from answer in a wider dtype: version -> truth."""
    wanted = {before.version: probes_to_settle(before, after, probes) for before, after in pairwise(seen)}
    dtype = WIDER.get(subject.dtype)
    if dtype is None:
        return {version: Truth(why_not=f"there is no dtype wider than {subject.dtype}") for version in wanted}
    at_once, threads = share_cores(subject, asked)
    tasks = []
    for version, names in wanted.items():
        if names:
            place = folder / f"truth-{version}"
            place.mkdir()
            request = request_of(subject, asked, place, target=asked.target, threads=threads)
            request = replace(request, dtype=dtype, truth=names)
            tasks.append(Task(name=f"truth-{version}", overlay=overlays[version], request=request))
    run.expect(len(tasks))
    done = run_all(tasks, folder, run, server, at_once=at_once)
    return {task.overlay.version: _read(task, done[task.name]) for task in tasks}


def _read(task: Task, done: Done) -> Truth:
    took = {"seconds": done.seconds, "processor_seconds": done.processor_seconds or 0.0}
    failure = done.answer.failure
    try:
        found = None if failure else read_fingerprint(Path(task.request.fingerprint)).fingerprint
    except InputError as error:
        found, failure = None, str(error)
    if found is None:
        return Truth(why_not=f"the truth was not made: {failure}", **took)
    return Truth(fingerprint=found, **took)
