"""Released upstream bugs in pinned environments, on tiny models: is each seen where it is, and nowhere else?

    python -m benchmarks.real_bugs [--only TEXT] [--environments DIR] [--work DIR] [--json FILE] [--list]

In: `real_bugs.toml`, a row a bug; releases are installed by pip where they are not yet. Out: a table: caught in the bad
release, placed, the cause that was named, silent in the fixed one; and the same as JSON. What was observed is kept in
--work, so that a run that was cut off goes on.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from theworld_validate.compare.causes import classify
from theworld_validate.documents.fingerprint import read_fingerprint
from theworld_validate.releases.candidates import judge_candidate
from theworld_validate.releases.environments import Overlay, default_root, find_overlay, install_overlay
from theworld_validate.releases.processes import Done, Task, run_tasks
from theworld_validate.releases.questions import CONFIG, NARROW, NARROW_PROBES, PROBES, QUESTIONS
from theworld_validate.releases.requests import Answer, Request, read_answer
from theworld_validate.releases.verdicts import Cell, Judged, Seen, judge_neighbours, unsafe_findings
from theworld_validate.results import Finding, InputError, Status
from theworld_validate.scan.classes import WRITE
from theworld_validate.scan.plain_subclasses import PREFIX
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, ask

TABLE = Path(__file__).with_name("real_bugs.toml")
GEMMA = "gemma3"
# Changes of a class's tiny checkpoint, by what follows its name: a config that ties a head which the files hold by
# itself; and T5's embedding under its other name, beside a head of its own.
OWN_HEAD, NO_SHARED = "+own_head", "+no_shared"
_SUBCLASS = f"theworld_validate.scan.plain_subclasses:{PREFIX}"
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One row of the table; see its head."""

    source: str
    about: str
    model: str
    method: str
    bad: str
    fixed: str
    after: str | None = None
    saved_by: str | None = None
    read_by: str | None = None
    probes: tuple[str, ...] = ()
    place: str
    cause: str

    @property
    def releases(self) -> tuple[str, ...]:
        """Those that must be observed."""
        return tuple(dict.fromkeys(v for v in (self.bad, self.fixed, self.after, self.saved_by) if v is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one bug.

    Args:
        said_place, said_cause: of the first root that was named in the bad release; None where nothing was.
        silent: whether nothing was said of the fixed release; None where it was not asked.
        why_not: why it could not be tried; None where it was.
    """

    source: str
    about: str
    bad: str
    fixed: str
    caught: bool = False
    placed: bool = False
    cause_right: bool = False
    silent: bool | None = None
    said_place: str | None = None
    said_cause: str | None = None
    expected_cause: str
    why_not: str | None = None


def read_bugs(path: Path = TABLE) -> list[Bug]:
    """Read the table."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["bug"]
    return [Bug(**{**row, "probes": tuple(row.get("probes", ()))}) for row in rows]


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
            self._make(name, folder)
        values = json.loads(answers.read_text(encoding="utf-8"))
        return folder, values["target"], tuple(values["probes"])

    def _make(self, name: str, folder: Path) -> None:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        checkpoint = folder / "checkpoint"
        if name == GEMMA:
            from theworld.synthetic import cached_checkpoint

            shutil.copytree(cached_checkpoint("tiny").gemma, checkpoint)
        else:
            plain = name.partition("+")[0]
            arguments = {"name": plain, "folder": str(checkpoint), "seed": 0}
            values = ask(self._run, Job(name=plain, function=WRITE, arguments=arguments))
            if values["why_not"] is not None:
                raise InputError(str(values["why_not"]))
            if name.endswith(OWN_HEAD):
                config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
                config["tie_word_embeddings"] = True
                (checkpoint / "config.json").write_text(json.dumps(config), encoding="utf-8")
            if name.endswith(NO_SHARED):
                _without_shared(checkpoint / "model.safetensors")
        subject = Subject(target="", checkpoint=str(checkpoint), dtype="float32")
        arguments = {"subject": subject, "folder": str(folder)}
        values = ask(self._run, Job(name="probes", function=QUESTIONS, arguments=arguments))
        kept = {"target": values["target"], "probes": values["probes"]}
        (folder / "questions.json").write_text(json.dumps(kept), encoding="utf-8")

    def observe(self, wanted: Sequence[tuple[str, str, str]], say: "Say") -> None:
        """Observe each (model, release, "base" or "subclass" or "read SAVER") that was not observed yet."""
        tasks = [task for key in dict.fromkeys(wanted) if (task := self._task(*key)) is not None]
        run_tasks(tasks, self._work, timeout_seconds=_TIMEOUT_SECONDS, at_once=2, progress=say)

    def _task(self, model: str, version: str, how: str) -> Task | None:
        place = self._place(model, version, how)
        if (place / "answer.json").is_file():
            return None
        folder, target, _ = self.model(model)
        place.mkdir(parents=True, exist_ok=True)
        narrow = folder / NARROW
        request = Request(
            target=target if how != "subclass" else _SUBCLASS + target.partition(":")[2],
            checkpoint=str(folder / "checkpoint"),
            dtype="float32",
            probes=str(folder / PROBES),
            fingerprint=str(place / "fingerprint.json"),
            answer=str(place / "answer.json"),
            threads=1,
        )
        if how == "base":
            has_narrow = narrow.is_dir()
            request = replace(
                request,
                fresh=str(place / "fresh"),
                config=str(folder / CONFIG),
                narrow=str(narrow) if has_narrow else None,
                narrow_probes=str(folder / NARROW_PROBES) if has_narrow else None,
            )
        if how.startswith("read "):
            saver = how.removeprefix("read ")
            request = replace(request, saved={saver: str(self._place(model, saver, "base") / "fresh")})
        name = f"{model}-{version}-{how}".replace(" ", "-")
        return Task(name=name, overlay=self.overlay(version), request=request)

    def _place(self, model: str, version: str, how: str) -> Path:
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


def _without_shared(path: Path) -> None:
    """Name a T5 checkpoint's embedding as its decoder does, and give it a head of its own."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    embedding = tensors.pop("shared.weight")
    generator = torch.Generator().manual_seed(0)
    tensors["decoder.embed_tokens.weight"] = embedding
    tensors["lm_head.weight"] = torch.randn(embedding.shape, generator=generator).to(embedding.dtype)
    save_file(tensors, path, metadata={"format": "pt"})


class Say:
    """Progress on stderr, a line each."""

    def __call__(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def wanted_for(bug: Bug) -> Iterator[tuple[str, str, str]]:
    """What must be observed for one bug."""
    if bug.method == "files":
        assert bug.saved_by is not None
        yield bug.model, bug.saved_by, "base"
        return
    if bug.method == "saved":
        yield from ((bug.model, version, "base") for version in (bug.bad, bug.fixed))
        return
    for version in bug.releases:
        yield bug.model, version, "base"
        if bug.method == "subclass":
            yield bug.model, version, "subclass"


def try_bug(bug: Bug, lab: Laboratory, say: Say) -> Result:
    """Observe what is missing, and judge."""
    empty = Result(source=bug.source, about=bug.about, bad=bug.bad, fixed=bug.fixed, expected_cause=bug.cause)
    try:
        lab.observe(list(wanted_for(bug)), say)
        lab.observe([(bug.model, *pair) for pair in exchanges_of(bug)], say)
        findings, alarms = _JUDGES[bug.method](bug, lab)
    except InputError as error:
        return replace(empty, why_not=str(error))
    first = findings[0] if findings else None
    said = str(classify(first)) if first is not None else None
    return replace(
        empty,
        caught=bool(findings),
        placed=first is not None and re.search(bug.place, first.location) is not None,
        cause_right=said == bug.cause,
        silent=None if alarms is None else not alarms,
        said_place=first.location if first is not None else None,
        said_cause=said,
    )


def _neighbours(bug: Bug, lab: Laboratory) -> tuple[list[Finding], list[Finding] | None]:
    names = bug.probes or lab.model(bug.model)[2]
    bad, fixed = lab.seen(bug.model, bug.bad), lab.seen(bug.model, bug.fixed)
    found = _findings_of(judge_neighbours(fixed, bad, names))
    if bug.after is None:
        return found, None
    return found, _findings_of(judge_neighbours(fixed, lab.seen(bug.model, bug.after), names))


def _findings_of(judged: Judged) -> list[Finding]:
    """The roots of a verdict that does not pass."""
    if judged.verdict.passes:
        return []
    roots = [f for f in judged.findings if f.explained_by is None and f.severity == "error"]
    return roots or [_unexplained(cell) for cell in judged.cells if not cell.verdict.passes]


def _unexplained(cell: Cell) -> Finding:
    return Finding(code="releases.changed", location=cell.place or cell.probe, message=f"{cell.probe} changed")


def exchanges_of(bug: Bug) -> tuple[tuple[str, str], ...]:
    """Which release reads what another one saved, of the bad release first; empty for other methods."""
    if bug.method == "files":
        return (bug.bad, f"read {bug.saved_by}"), (bug.fixed, f"read {bug.saved_by}")
    if bug.method == "saved":
        assert bug.read_by is not None
        return (bug.read_by, f"read {bug.bad}"), (bug.read_by, f"read {bug.fixed}")
    return ()


def _files(bug: Bug, lab: Laboratory) -> tuple[list[Finding], list[Finding] | None]:
    found = []
    for version, how in exchanges_of(bug):
        answer = lab.answer(bug.model, version, how)
        if answer.failure is not None:
            raise InputError(f"{version}: {answer.failure}")
        (exchange,) = answer.loads.values()
        if exchange.loading is None:
            found.append([Finding(code="releases.exchange_failed", location=version, message=str(exchange.failure))])
        else:
            found.append(list(unsafe_findings(exchange.loading, f"{version} loads with")))
    return found[0], found[1]


def _subclass(bug: Bug, lab: Laboratory) -> tuple[list[Finding], list[Finding] | None]:
    found = []
    for version in (bug.bad, bug.fixed):
        check = judge_candidate(
            lab.seen(bug.model, version), lab.seen(bug.model, version, "subclass"), lab.model(bug.model)[2]
        )
        if check.status is Status.INCONCLUSIVE:
            raise InputError(f"{version}: {check.reason or check.findings[0].message}")
        roots = [f for f in check.findings if f.explained_by is None and f.severity == "error"]
        found.append(roots if check.status is Status.FAILED else [])
    return found[0], found[1]


_JUDGES = {"neighbours": _neighbours, "files": _files, "saved": _files, "subclass": _subclass}


def main() -> None:
    """Try all bugs, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="only bugs whose source or model has this text")
    parser.add_argument("--environments", type=Path, default=default_root())
    parser.add_argument("--work", type=Path, default=default_root().parent / "real-bugs")
    parser.add_argument("--json", type=Path, help="write the results here, too")
    parser.add_argument("--list", action="store_true", help="list the bugs and exit")
    options = parser.parse_args()
    bugs = [bug for bug in read_bugs() if options.only in f"{bug.source} {bug.model} {bug.method}"]
    if options.list:
        for bug in bugs:
            print(f"{bug.source:34} {bug.bad:8} {bug.fixed:8} {bug.about}")
        return
    lab, say = Laboratory(options.work, options.environments), Say()
    results = [try_bug(bug, lab, say) for bug in bugs]
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")
    print(render(results), end="")


def render(results: Sequence[Result]) -> str:
    """The table as Markdown, and its sums."""
    marks = {True: "yes", False: "no", None: ""}
    lines = [
        "| source | bug | bad | fixed | caught | placed | cause | silent in the fixed one | says |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        says = result.why_not or f"{result.said_place}: {result.said_cause}"
        cells = (
            result.source, result.about, result.bad, result.fixed, marks[result.caught], marks[result.placed],
            marks[result.cause_right], marks[result.silent], says.replace("|", "\\|"),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    tried = [result for result in results if result.why_not is None]
    alarms = sum(result.silent is False for result in tried)
    lines.append("")
    lines.append(
        f"{len(tried)} tried: {sum(r.caught for r in tried)} caught, {sum(r.placed for r in tried)} placed, "
        f"{sum(r.cause_right for r in tried)} causes right; {alarms} alarms in fixed releases."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
