"""Releases observed: questions made once, then each release asked them in a process of its own.

In: a subject and overlays. Out: what is asked, and for each release what was seen: a fingerprint that was read back
strictly, what became of the checkpoint's keys, and of the files that other releases saved.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from theworld_validate.documents.fingerprint import read_fingerprint
from theworld_validate.environment import usable_cores
from theworld_validate.releases.environments import Overlay
from theworld_validate.releases.processes import Done, Server, Task, run_tasks
from theworld_validate.releases.questions import CONFIG, NARROW, NARROW_PROBES, PROBES, QUESTIONS
from theworld_validate.releases.requests import Request
from theworld_validate.releases.seen import Seen
from theworld_validate.results import InputError
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, ask

BASE, CANDIDATE = "base", "candidate"
_AT_ONCE = 4  # processes that hold a small checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What each release is asked.

    Args:
        probes: their names.
        target: what loads the base.
        folder: where the files are.
        is_small: whether two processes may hold the checkpoint at once.
    """

    probes: tuple[str, ...]
    target: str
    folder: Path
    is_small: bool

    @property
    def narrow(self) -> tuple[str | None, str | None]:
        """The checkpoint with a narrow window and its probes, where they were made."""
        if not (self.folder / NARROW).is_dir():
            return None, None
        return str(self.folder / NARROW), str(self.folder / NARROW_PROBES)


def make_questions(subject: Subject, folder: Path, run: Run) -> Asked:
    """Have the questions made, in a worker: the same for every release."""
    run.progress("making probes")
    arguments = {"subject": subject, "folder": str(folder)}
    values = ask(run, Job(name="probes", function=QUESTIONS, arguments=arguments))
    names = values["probes"]
    assert isinstance(names, list)
    return Asked(
        probes=tuple(str(name) for name in names),
        target=str(values["target"]),
        folder=folder,
        is_small=values["is_small"] is True,
    )


def share_cores(subject: Subject, asked: Asked) -> tuple[int, int | None]:
    """How many processes may run at once, and the threads of each; None leaves them to torch."""
    cores = usable_cores()
    if subject.device != "cpu":
        return 1, None
    at_once = min(_AT_ONCE, cores) if asked.is_small else 1
    return at_once, cores // at_once


def request_of(subject: Subject, asked: Asked, place: Path, *, target: str, threads: int | None) -> Request:
    """What every process of a release is asked, with what it writes in `place`."""
    narrow, narrow_probes = asked.narrow
    return Request(
        target=target,
        checkpoint=subject.checkpoint,
        dtype=subject.dtype,
        device=subject.device,
        attn=subject.attn,
        seed=subject.seed,
        probes=str(asked.folder / PROBES),
        fingerprint=str(place / "fingerprint.json"),
        answer=str(place / "answer.json"),
        narrow=narrow,
        narrow_probes=narrow_probes,
        threads=threads,
    )


def observe_releases(
    subject: Subject,
    asked: Asked,
    overlays: dict[str, Overlay],
    folder: Path,
    run: Run,
    server: Server,
    *,
    name: str,
    target: str,
) -> dict[str, Seen]:
    """Observe a subject in each release; the base also exchanges files between them."""
    exchanges = name == BASE
    at_once, threads = share_cores(subject, asked)
    run.expect(len(overlays) * (1 + exchanges))
    tasks = []
    for named, overlay in overlays.items():
        place = folder / f"{name}-{named}"
        place.mkdir()
        request = replace(
            request_of(subject, asked, place, target=target, threads=threads),
            fresh=str(place / "fresh") if exchanges else None,
            config=str(asked.folder / CONFIG) if exchanges else None,
            sketch=exchanges,
        )
        tasks.append(Task(name=f"{name}-{named}", overlay=overlay, request=request))
    done = run_all(tasks, folder, run, server, at_once=at_once)
    loads = _exchange(tasks, done, folder, run, server, at_once=at_once) if exchanges else {}
    return {
        named: _seen(named, task, done[task.name], loads.get(task.name))
        for named, task in zip(overlays, tasks, strict=True)
    }


def run_all(tasks: Sequence[Task], folder: Path, run: Run, server: Server, *, at_once: int) -> dict[str, Done]:
    """Run tasks as a command's run says."""
    return run_tasks(
        tasks, folder, timeout_seconds=run.timeout_seconds, at_once=at_once, progress=run.progress, server=server
    )


def _exchange(
    tasks: Sequence[Task], done: dict[str, Done], folder: Path, run: Run, server: Server, *, at_once: int
) -> dict[str, Done]:
    """Have each release load what all others saved."""
    saved = {
        task.overlay.version: task.request.fresh
        for task in tasks
        if task.request.fresh is not None and not (done[task.name].answer.failure or done[task.name].answer.saved)
    }
    again = []
    for task in tasks:
        others = {named: place for named, place in saved.items() if named != task.overlay.version}
        if others and not done[task.name].answer.failure:  # one that cannot save may still read
            answer = str(folder / task.name / "exchange.json")
            request = replace(task.request, saved=others, answer=answer)
            again.append(replace(task, name=f"{task.name}-files", request=request))
    found = run_all(again, folder, run, server, at_once=at_once)
    return {name.removesuffix("-files"): result for name, result in found.items()}


def _seen(named: str, task: Task, done: Done, loads: Done | None) -> Seen:
    """What is known of one release, read back strictly."""
    answer = done.answer
    file, failure = None, answer.failure
    if failure is None:
        try:
            file = read_fingerprint(Path(task.request.fingerprint))
        except InputError as error:
            failure = f"its fingerprint cannot be read: {error}"
    return Seen(
        version=named,
        file=file,
        loading=answer.loading,
        exchange=loads.answer.loads if loads is not None else {},
        unsaved="; ".join(filter(None, (answer.saved, loads.answer.failure if loads is not None else None))) or None,
        failure=failure,
        seconds=sum(part.seconds for part in (done, loads) if part is not None),
        processor_seconds=sum(part.processor_seconds or 0.0 for part in (done, loads) if part is not None),
    )
