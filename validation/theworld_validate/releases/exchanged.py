"""Files between releases, as a table: who reads what whom saves.

In: what each release saw. Out: one check with a row a writing release and a column a reading one.
"""

from collections.abc import Iterator, Sequence

from theworld_validate.releases.requests import Exchange
from theworld_validate.releases.safety import unsafe_findings
from theworld_validate.releases.seen import Seen
from theworld_validate.results import CheckResult, Finding, Row, Status


def check_exchange(seen: Sequence[Seen]) -> Iterator[CheckResult]:
    """Whether every release reads what every other one saves of a freshly built model.

    Nothing where nothing was to be saved: of one release, say, or where each failed.
    """
    readers = [one for one in seen if one.exchange]
    if not readers and not any(one.unsaved for one in seen):
        return
    rows: list[Row] = []
    lost: dict[tuple[str, Exchange], list[str]] = {}  # one finding where several releases lose the same
    read = 0
    for one in seen:
        row: Row = {"saved_by": one.version}
        for reader in readers:
            found = reader.exchange.get(one.version)
            if found is None:
                row[f"read_by_{reader.version}"] = "itself" if reader is one else None
                continue
            what = _describe(found)
            read += what == "whole"
            row[f"read_by_{reader.version}"] = what
            if what != "whole":
                lost.setdefault((one.version, found), []).append(reader.version)
        rows.append(row)
    findings = [f for (writer, found), names in lost.items() for f in _findings(found, ", ".join(names), writer)]
    unsaved = [f"{one.version}: {one.unsaved}" for one in seen if one.unsaved]
    status = Status.FAILED if findings else Status.INCONCLUSIVE if unsaved or not read else Status.PASSED
    yield CheckResult(
        id="releases.files",
        status=status,
        reason="; ".join(unsaved) or None if status is Status.INCONCLUSIVE else None,
        seconds=0.0,
        measurements={"pairs_read": read, "files": rows},
        findings=tuple(findings),
    )


def _describe(found: Exchange) -> str:
    if found.loading is None:
        return "fails"
    lost = {*found.loading.missing, *found.loading.mismatched, *found.loading.random}
    return "whole" if found.loading.is_safe else f"{len(lost)} lost"


def _findings(found: Exchange, readers: str, writer: str) -> Iterator[Finding]:
    if found.loading is not None:
        yield from unsafe_findings(found.loading, f"what {writer} saves of a new model, {readers}: loaded with")
        return
    yield Finding(
        code="releases.exchange_failed",
        location=writer,
        message=f"{readers} cannot load what {writer} saves: {found.failure}",
        cause="saving or loading: the two releases write and read other files",
        remedy=f"save for {readers} with a release that they read",
        section="round_trip",
        field="exchange",
    )
