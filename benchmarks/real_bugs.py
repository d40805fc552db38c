"""Released upstream bugs in pinned environments, on tiny models: is each seen where it is, and nowhere else?

    python -m benchmarks.real_bugs [--only TEXT] [--environments DIR] [--work DIR] [--json FILE] [--list]

In: `real_bugs.toml`, a row a bug; releases are installed by pip where they are not yet. Out: a table: caught in the bad
release, placed, the cause that was named, silent in the fixed one; and the same as JSON. What was observed is kept in
--work, so that a run that was cut off goes on.
"""

import argparse
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.real_bug_lab import Laboratory, Say
from theworld_validate.compare.causes import classify
from theworld_validate.documents.compact_json import compact_json
from theworld_validate.releases.candidates import judge_candidate
from theworld_validate.releases.environments import default_root
from theworld_validate.releases.judged import Cell, Judged, Verdict
from theworld_validate.releases.safety import unsafe_findings
from theworld_validate.releases.verdicts import judge_first, judge_neighbours, probes_to_settle
from theworld_validate.results import Finding, InputError, Status

TABLE = Path(__file__).with_name("real_bugs.toml")


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
    own: str | None = None
    probes: tuple[str, ...] = ()
    place: str
    cause: str

    @property
    def releases(self) -> tuple[str, ...]:
        """Those that must be observed."""
        return tuple(dict.fromkeys(v for v in (self.bad, self.fixed, self.after, self.saved_by) if v is not None))

    @property
    def other(self) -> str:
        """How the class that is not the checkpoint's own is observed."""
        return "subclass" if self.own is None else f"own {self.own}"

    @property
    def observed(self) -> tuple[tuple[str, str], ...]:
        """The releases that observe a model, and how: "base", "subclass" or "own CLASS"."""
        if self.method == "files":
            return ((self.saved_by or "", "base"),)
        if self.method == "saved":
            return (self.bad, "base"), (self.fixed, "base")
        if self.method == "subclass":
            return tuple((version, how) for version in self.releases for how in ("base", self.other))
        return tuple((version, "base" if self.own is None else self.other) for version in self.releases)

    @property
    def exchanges(self) -> tuple[tuple[str, str], ...]:
        """Which release reads what another one saved, of the bad release first; empty for other methods."""
        if self.method == "files":
            return (self.bad, f"read {self.saved_by}"), (self.fixed, f"read {self.saved_by}")
        if self.method == "saved":
            return (self.read_by or "", f"read {self.bad}"), (self.read_by or "", f"read {self.fixed}")
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one bug.

    Args:
        said_place, said_cause: of the first root that was named in the bad release; None where nothing was.
        silent: whether nothing was said of the fixed release; None where it was not asked.
        seconds: what its observations took, one after the other; those that it shares with another row count in both.
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
    seconds: float = 0.0
    why_not: str | None = None


def read_bugs(path: Path = TABLE) -> list[Bug]:
    """Read the table."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["bug"]
    return [Bug(**{**row, "probes": tuple(row.get("probes", ()))}) for row in rows]


def try_bug(bug: Bug, lab: Laboratory, say: Say) -> Result:
    """Observe what is missing, and judge."""
    empty = Result(source=bug.source, about=bug.about, bad=bug.bad, fixed=bug.fixed, expected_cause=bug.cause)
    try:
        lab.observe([(bug.model, *pair) for pair in bug.observed], say)
        lab.observe([(bug.model, *pair) for pair in bug.exchanges], say)
        findings, alarms = _JUDGES[bug.method](bug, lab, say)
    except InputError as error:
        return replace(empty, why_not=str(error))
    wanted = [(bug.model, *pair) for pair in (*bug.observed, *bug.exchanges)]
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
        seconds=round(lab.seconds(wanted), 1),
    )


def _neighbours(bug: Bug, lab: Laboratory, say: Say) -> tuple[list[Finding], list[Finding] | None]:
    names = bug.probes or lab.model(bug.model)[2]
    seen = {version: lab.seen(bug.model, version, how) for version, how in bug.observed}
    others = [seen[version] for version in (bug.bad, bug.after) if version is not None]
    # One truth for both comparisons, of all that either needs.
    needed = dict.fromkeys(name for other in others for name in probes_to_settle(seen[bug.fixed], other, names))
    truth = lab.truth(bug.model, bug.fixed, tuple(needed), say, bug.own)
    found = _findings_of(judge_neighbours(seen[bug.fixed], seen[bug.bad], names, truth))
    if bug.after is None:
        return found, [f for f in judge_first(seen[bug.fixed], names).findings if f.severity == "error"]
    return found, _findings_of(judge_neighbours(seen[bug.fixed], seen[bug.after], names, truth))


def _findings_of(judged: Judged) -> list[Finding]:
    """The roots of a verdict that does not pass; what nobody can say is neither a catch nor a silence.

    Raises:
        InputError: if it is undecidable.
    """
    if judged.verdict.passes:
        return []
    if judged.verdict is Verdict.UNDECIDABLE:
        why = next((cell.why for cell in judged.cells if cell.verdict is Verdict.UNDECIDABLE), None)
        raise InputError(f"{judged.version}: undecidable: {why}")
    roots = [f for f in judged.findings if f.explained_by is None and f.severity == "error"]
    return roots or [_unexplained(cell) for cell in judged.cells if not cell.verdict.passes]


def _unexplained(cell: Cell) -> Finding:
    return Finding(code="releases.changed", location=cell.place or cell.probe, message=f"{cell.probe} changed")


def _files(bug: Bug, lab: Laboratory, _say: Say) -> tuple[list[Finding], list[Finding] | None]:
    found = []
    for version, how in bug.exchanges:
        answer = lab.answer(bug.model, version, how)
        if answer.failure is not None:
            raise InputError(f"{version}: {answer.failure}")
        (exchange,) = answer.loads.values()
        if exchange.loading is None:
            found.append([Finding(code="releases.exchange_failed", location=version, message=str(exchange.failure))])
        else:
            found.append(list(unsafe_findings(exchange.loading, f"{version} loads with")))
    return found[0], found[1]


def _subclass(bug: Bug, lab: Laboratory, _say: Say) -> tuple[list[Finding], list[Finding] | None]:
    found = []
    for version in (bug.bad, bug.fixed):
        check = judge_candidate(
            lab.seen(bug.model, version), lab.seen(bug.model, version, bug.other), lab.model(bug.model)[2]
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
        options.json.write_text(compact_json([asdict(result) for result in results]), encoding="utf-8")
    print(render(results), end="")


def render(results: Sequence[Result]) -> str:
    """The table as Markdown, and its sums."""
    marks = {True: "yes", False: "no", None: ""}
    lines = [
        "| source | bug | bad | fixed | caught | placed | cause | silent in the fixed one | seconds | says |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        says = result.why_not or f"{result.said_place}: {result.said_cause}"
        cells = (
            result.source, result.about, result.bad, result.fixed, marks[result.caught], marks[result.placed],
            marks[result.cause_right], marks[result.silent], f"{result.seconds:.0f}", says.replace("|", "\\|"),
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
