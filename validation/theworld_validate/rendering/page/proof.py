"""What a report proves, in numbers, and what it leaves open: a sentence, figures, and the checks that did not run.

In: a report. Out: what the template lays out. Nothing is said that the checks do not hold.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from theworld_validate.rendering.claims_rows import NOTES
from theworld_validate.rendering.grid_rows import FIRST, GRAVEST_FIRST, Grid, grid_of
from theworld_validate.rendering.memory_rows import CellPeak, drawable_of
from theworld_validate.rendering.names import anchor_of
from theworld_validate.rendering.page.cards import Cards
from theworld_validate.rendering.page.claims import VERDICTS, Claims
from theworld_validate.rendering.page.grids import count_reads
from theworld_validate.rendering.plain_text import counted, line
from theworld_validate.rendering.summary import ALLOWED, count_statuses, describe_counts, total, why
from theworld_validate.rendering.tables import format_bytes
from theworld_validate.results import CheckResult, Report, Status

_MAX_OPEN = 200
_MAX_GROUPS = 60
_UNCHANGED = ("equal", "equivalent")
_VERDICT_WORDS = {
    "holds": "as measured",
    "explained": "explained",
    "refuted": "refuted",
    "needs a GPU": "not measured, for want of a GPU",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number with what it counts."""

    value: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The checks of one kind: how many of them passed, and how the others ended."""

    name: str
    num_passed: int
    num_checks: int
    style: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """One check that proves nothing, and why."""

    check: str
    check_anchor: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was proved, and what was not."""

    headline: str
    figures: list[Figure]
    groups: list[Group]
    open_checks: list[Open]
    num_open_left_out: int


def proof_of(report: Report, claims: Claims, errors: Cards) -> Proof:
    """Count what was proved; `errors` are the cards of what failed."""
    unproved = [check for check in report.checks if check.status not in (Status.PASSED, Status.FAILED)]
    return Proof(
        headline=_headline(report, claims, errors),
        figures=[*_compared(report), *_memory(report), *_releases(report), *_claims(claims)],
        groups=_groups(report),
        open_checks=[
            Open(check=line(check.id), check_anchor=anchor_of(check.id), status=str(check.status), reason=why(check))
            for check in unproved[:_MAX_OPEN]
        ],
        num_open_left_out=max(len(unproved) - _MAX_OPEN, 0),
    )


def _headline(report: Report, claims: Claims, errors: Cards) -> str:
    """One sentence on what the verdict is about; the counts of checks where there is none better."""
    if (grid := next((found for check in report.checks if (found := grid_of(check))), None)) is not None:
        return _releases_headline(grid)
    if (memory := _memory_headline(report)) is not None:
        return memory
    if report.verdict is Status.FAILED and errors.cards:
        causes, follow = counted(len(errors.cards), "cause"), counted(errors.num_following, "finding")
        verb = "follows" if errors.num_following == 1 else "follow"
        return f"{causes}, from which {follow} {verb}" if errors.num_following else causes
    if report.verdict is not Status.PASSED:
        return describe_counts(report)
    if _is_bit_for_bit(report):
        targets = {subject.role: subject.target for subject in report.subjects}
        plan = report.plan
        asked = (
            f", in {counted(len(plan.probes), 'probe')} and {counted(len(plan.sections), 'section')}" if plan else ""
        )
        return f"{line(targets['candidate'])} is {line(targets['reference'])}, bit for bit{asked}"
    if claims.rows and all(check.id.startswith("claims.") for check in report.checks):
        unasked = claims.counts.get("needs a GPU", 0)
        more = f"; {unasked:,} more need a GPU" if unasked else ""
        measured = f"{counted(len(claims.rows) - unasked, 'claim')} of {NOTES}"
        return f"{measured} measured: every verdict is the one on record{more}"
    return describe_counts(report)


def _releases_headline(grid: Grid) -> str:
    """How many releases have which verdict, the gravest first; the first one is compared with none."""
    counts = Counter(grid.verdicts)
    unchanged = sum(counts.pop(verdict, 0) for verdict in _UNCHANGED)
    num_first = counts.pop(FIRST, 0)
    told = [f"{counts[verdict]:,} {verdict}" for verdict in GRAVEST_FIRST if counts[verdict]]
    told += [f"{number:,} {verdict}" for verdict, number in counts.items() if verdict not in GRAVEST_FIRST]
    told += [f"{unchanged:,} changed nothing"] if unchanged or num_first < len(grid.verdicts) else []
    told += [f"{grid.releases[0]} is the first"] if num_first else []
    return f"of {counted(len(grid.verdicts), 'release')}: {', '.join(told)}"


def _memory_headline(report: Report) -> str | None:
    """What a command that is about memory alone has to say; None for any other."""
    checks = [check for check in report.checks if check.id.startswith("memory.")]
    if not checks or len(checks) < len(report.checks):
        return None
    found = [drawable_of(check) for check in checks]
    cells = [cell for one in found for cell in one.cells]
    runs = [run for one in found for run in one.runs]
    judged = [cell.fits for cell in cells if cell.fits is not None]
    capacity = next((one.capacity_bytes for one in found if one.capacity_bytes), None)
    if judged and capacity and report.verdict in (Status.PASSED, Status.FAILED):
        unknown = sum(finding.code == "memory.not_predicted" for check in checks for finding in check.findings)
        of_them = f"; {unknown:,} could not be predicted" if unknown else ""
        return f"{sum(judged):,} of {counted(len(judged), 'configuration')} fit in {format_bytes(capacity)}{of_them}"
    if report.verdict is Status.INCONCLUSIVE:
        return describe_counts(report)
    peaks = [cell.allocated for cell in cells if cell.allocated is not None]
    if peaks:
        least, most = format_bytes(min(peaks)), format_bytes(max(peaks))
        reach = least if least == most else f"{least} to {most}"
        of_all = f"{len(peaks):,} of " if len(peaks) < len(cells) else ""
        return f"{of_all}{counted(len(cells), 'configuration')}, {reach} allocated at the peak"
    if runs:
        steps, most = max(len(run.reserved) for run in runs), format_bytes(max(max(run.reserved) for run in runs))
        return f"{counted(len(runs), 'run')} of {counted(steps, 'step')}, {most} reserved at the highest peak"
    return None


def _is_bit_for_bit(report: Report) -> bool:
    """Whether one candidate was held against one reference, nothing was tolerated, and nothing was left out."""
    roles = Counter(subject.role for subject in report.subjects)
    ids = {check.id for check in report.checks}
    return (
        report.command.endswith(" parity")
        and roles["reference"] == roles["candidate"] == 1
        and {"parity.parameters", "parity.buffers", "parity.control"} <= ids
        and "parity.judgement" not in ids
        and not any(check_id.startswith(ALLOWED) for check_id in ids)
        and all(check.status is Status.PASSED for check in report.checks)
    )


def _compared(report: Report) -> Iterator[Figure]:
    """How much was held against something else, bit for bit."""
    counts = (
        ("tensors_compared", "tensors compared, bit for bit"),
        ("module_outputs_compared", "outputs of modules among them"),
        ("outputs_compared", "logits, losses and caches"),
        ("generations_compared", "generated sequences"),
    )
    for name, label in counts:
        if number := total(report, name):
            yield Figure(value=f"{number:,}", label=label)
    if num_bytes := total(report, "compared_bytes"):
        yield Figure(value=format_bytes(num_bytes), label="of weights, gradients and saved files")
    is_asked = any(check.id.startswith("parity.") or "probe" in check.measurements for check in report.checks)
    if report.plan is not None and report.plan.probes and is_asked:
        yield Figure(value=f"{len(report.plan.probes):,}", label="probes" if len(report.plan.probes) > 1 else "probe")
    differing = [check for check in report.checks if "differing_outputs" in check.measurements]
    if differing and all(check.status is Status.PASSED for check in differing):
        yield Figure(value="0", label="outputs that differ")


def _memory(report: Report) -> Iterator[Figure]:
    """The least and the greatest peak, and how many configurations fit."""
    found = [drawable_of(check) for check in report.checks]
    if runs := [run for one in found for run in one.runs]:
        steps = max(len(run.reserved) for run in runs)
        label = f"steps of {runs[0].label}" if len(runs) == 1 else f"steps at most, of {len(runs):,} runs"
        yield Figure(value=f"{steps:,}", label=label)
        yield Figure(value=format_bytes(max(max(run.allocated) for run in runs)), label="allocated at the highest peak")
        yield Figure(value=format_bytes(max(max(run.reserved) for run in runs)), label="reserved at the highest peak")
    cells: list[CellPeak] = [cell for one in found for cell in one.cells]
    if not cells:
        return
    yield Figure(value=f"{len(cells):,}", label="memory configuration" if len(cells) == 1 else "memory configurations")
    peaks = [cell.allocated for cell in cells if cell.allocated is not None]
    if peaks:
        label = "allocated at the peak" if len(peaks) == 1 else "allocated at the lowest peak"
        yield Figure(value=format_bytes(min(peaks)), label=label)
        if len(peaks) > 1:
            yield Figure(value=format_bytes(max(peaks)), label="allocated at the highest peak")
    judged = [cell.fits for cell in cells if cell.fits is not None]
    capacities = [one.capacity_bytes for one in found if one.capacity_bytes]
    if judged and capacities:
        yield Figure(value=f"{sum(judged):,} of {len(judged):,}", label=f"fit in {format_bytes(capacities[0])}")


def _releases(report: Report) -> Iterator[Figure]:
    """Of all reads of one release's files by another, how many are whole; a release's own are none of them."""
    if whole := total(report, "pairs_read"):
        num_reads = sum(map(count_reads, report.checks))
        of_all = f"of {num_reads:,}: " if num_reads else ""
        yield Figure(value=f"{whole:,}", label=f"{of_all}files of one release that another reads whole")


def _claims(claims: Claims) -> Iterator[Figure]:
    for verdict in VERDICTS:
        if number := claims.counts.get(verdict):
            noun = "claim" if number == 1 else "claims"
            yield Figure(value=f"{number:,}", label=f"{noun} of {NOTES}: {_VERDICT_WORDS[verdict]}")


def _groups(report: Report) -> list[Group]:
    """Checks by the first part of their ids; none where all are of one group."""
    by_name: dict[str, list[CheckResult]] = {}
    for check in report.checks:
        by_name.setdefault(check.id.partition(".")[0], []).append(check)
    if len(by_name) < 2:
        return []
    return [_group(name, checks) for name, checks in list(by_name.items())[:_MAX_GROUPS]]


def _group(name: str, checks: list[CheckResult]) -> Group:
    counts = Counter(check.status for check in checks)
    order = (Status.ERROR, Status.FAILED, Status.INCONCLUSIVE, Status.SKIPPED, Status.PASSED)
    worst = next(status for status in order if counts[status])
    others = [f"{counts[status]:,} {status}" for status in order[:-1] if counts[status]]
    return Group(
        name=line(name, 60),
        num_passed=counts[Status.PASSED],
        num_checks=len(checks),
        style=str(worst),
        text=", ".join(others),
    )


def tally_of(report: Report) -> list[tuple[str, int, float]]:
    """How many checks ended in which way, and their share in percent; what none ended in is left out."""
    counts = count_statuses(report)
    order = (Status.FAILED, Status.ERROR, Status.INCONCLUSIVE, Status.SKIPPED, Status.PASSED)
    return [
        (str(status), counts[status], 100 * counts[status] / len(report.checks)) for status in order if counts[status]
    ]
