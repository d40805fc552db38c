"""What releases make of tiny checkpoints, observed once and kept.

In: a model's name, a release, and how it is observed. Out: what was seen there. Releases that are not installed yet
are; what was observed is read back in a later run.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.real_bug_models import EAGER, make_model
from theworld_validate.documents.fingerprint import read_fingerprint
from theworld_validate.releases.environments import Overlay, find_overlay, install_overlay
from theworld_validate.releases.processes import Done, Task, run_tasks
from theworld_validate.releases.questions import CONFIG, NARROW, NARROW_PROBES, PROBES
from theworld_validate.releases.requests import Answer, Request, read_answer
from theworld_validate.releases.seen import Seen, Truth
from theworld_validate.results import InputError
from theworld_validate.scan.plain_subclasses import PREFIX
from theworld_validate.workers.run import Run

_SUBCLASS = f"theworld_validate.scan.plain_subclasses:{PREFIX}"
_OWN = "benchmarks.real_bug_classes:"
_SECONDS = "seconds.txt"
_TIMEOUT_SECONDS = 600.0
_TRUTH = "truth "  # the class of our own, or nothing, and the probes that are asked: "truth CLASS PROBE,PROBE"


class Say:
    """Progress on stderr, a line each."""

    def __call__(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Laboratory:
    """Models, environments and what was observed, each made once."""

    def __init__(self, work: Path, environments: Path) -> None:
        self._work, self._environments = work, environments
        self._run = Run(timeout_seconds=_TIMEOUT_SECONDS)
        self._overlays: dict[str, Overlay] = {}
        work.mkdir(parents=True, exist_ok=True)

    def overlay(self, version: str) -> Overlay:
        """A release's environment."""
        if version not in self._overlays:
            found = find_overlay("transformers", version, self._environments)
            self._overlays[version] = found or install_overlay("transformers", version, self._environments)
        return self._overlays[version]

    def model(self, name: str) -> tuple[Path, str, tuple[str, ...]]:
        """A tiny checkpoint, its class, and the names of its probes."""
        folder = self._work / "models" / name
        answers = folder / "questions.json"
        if not answers.is_file():
            make_model(name, folder, self._run)
        values = json.loads(answers.read_text(encoding="utf-8"))
        return folder, values["target"], tuple(values["probes"])

    def observe(self, wanted: Sequence[tuple[str, str, str]], say: Say) -> None:
        """Observe each (model, release, how) that was not observed yet.

        How is one of "base", "subclass", "own CLASS", "read SAVER" and "truth CLASS PROBE,PROBE".
        """
        tasks = [task for key in dict.fromkeys(wanted) if (task := self._task(*key)) is not None]
        done = run_tasks(tasks, self._work, timeout_seconds=_TIMEOUT_SECONDS, at_once=2, progress=say)
        for task in tasks:
            place = Path(task.request.answer).parent
            (place / _SECONDS).write_text(f"{done[task.name].seconds:.1f}\n", encoding="utf-8")

    def seconds(self, wanted: Sequence[tuple[str, str, str]]) -> float:
        """What those observations took, whenever that was; two run at a time."""
        places = (self._place(*key) / _SECONDS for key in dict.fromkeys(wanted))
        return sum(float(place.read_text(encoding="utf-8")) for place in places if place.is_file())

    def _task(self, model: str, version: str, how: str) -> Task | None:
        place = self._place(model, version, how)
        if (place / "answer.json").is_file():
            return None
        folder, target, _ = self.model(model)
        place.mkdir(parents=True, exist_ok=True)
        narrow = folder / NARROW
        if how == "subclass":
            target = _SUBCLASS + target.partition(":")[2]
        own, _, names = how.removeprefix(_TRUTH).partition(" ") if how.startswith(_TRUTH) else ("", "", "")
        own = how.removeprefix("own ") if how.startswith("own ") else own
        if own:
            target = _OWN + own
        request = Request(
            target=target,
            attn=EAGER if EAGER in model.split("+") else None,
            checkpoint=str(folder / "checkpoint"),
            dtype="float32",
            probes=str(folder / PROBES),
            fingerprint=str(place / "fingerprint.json"),
            answer=str(place / "answer.json"),
            threads=1,
            sketch=not how.startswith("read "),
        )
        if names:
            request = replace(request, dtype="float64", truth=tuple(names.split(",")))
        if how == "base" or names:
            has_narrow = narrow.is_dir()
            if how == "base":
                request = replace(request, fresh=str(place / "fresh"), config=str(folder / CONFIG))
            request = replace(
                request,
                narrow=str(narrow) if has_narrow else None,
                narrow_probes=str(folder / NARROW_PROBES) if has_narrow else None,
            )
        if how.startswith("read "):
            saver = how.removeprefix("read ")
            request = replace(request, saved={saver: str(self._place(model, saver, "base") / "fresh")})
        name = f"{model}-{version}-{how}".replace(" ", "-")
        return Task(name=name, overlay=self.overlay(version), request=request)

    def _place(self, model: str, version: str, how: str) -> Path:
        how = how.rpartition(" ")[0] if how.startswith(_TRUTH) else how
        return self._work / "seen" / f"{model}-{version}-{how}".replace(" ", "-")

    def answer(self, model: str, version: str, how: str) -> Answer:
        """What a process had to say."""
        try:
            return read_answer(self._place(model, version, how) / "answer.json")
        except InputError as error:
            return Answer(failure=f"the process left no answer: {error}")

    def seen(self, model: str, version: str, how: str = "base") -> Seen:
        """What one release made of one model."""
        done = Done(answer=self.answer(model, version, how), seconds=0.0)
        failure = done.answer.failure
        file = None if failure else read_fingerprint(self._place(model, version, how) / "fingerprint.json")
        return Seen(version=version, file=file, loading=done.answer.loading, exchange={}, failure=failure)

    def truth(self, model: str, version: str, names: tuple[str, ...], say: Say, own: str | None = None) -> Truth:
        """What a release gives in float64, for probes that another one answers with other bits.

        Args:
            own: a class of `real_bug_classes` in place of the checkpoint's own.
        """
        if not names:
            return Truth()
        how = f"{_TRUTH}{own or ''} {','.join(names)}"
        self.observe([(model, version, how)], say)
        failure = self.answer(model, version, how).failure
        if failure is not None:
            return Truth(why_not=f"the truth was not made: {failure}")
        return Truth(fingerprint=read_fingerprint(self._place(model, version, how) / "fingerprint.json").fingerprint)
