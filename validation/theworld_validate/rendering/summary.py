"""The lines that every form has: the verdict with its counts, the likeliest cause, what was compared, and why.

In: a report. Out: lines of printable text, which each form escapes as its syntax needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from theworld_validate.rendering.findings import Root, find_roots
from theworld_validate.rendering.grid_rows import grid_of
from theworld_validate.rendering.plain_text import counted, line, prose
from theworld_validate.rendering.tables import describe_measurements, format_bytes
from theworld_validate.results import CheckResult, Environment, Finding, Measurements, Report, Status, SubjectRecord

ALLOWED = "parity.allowed."  # what the checks of allowances are named
_CONTROL = "parity.control"
# What checks do that compare nothing, though they count it in the same measurement.
_VERBS = {"memory.predict": "predicted", "memory.run": "predicted", "memory.measure": "measured"}
_MAX_CAUSE = 300
_MAX_REASON = 200
_MAX_NAMED = 12  # checks on one line
_LIBRARIES = ("torch", "transformers", "diffusers")
_MAX_LOCATION = 200
SHORT_DIGEST = 16
_WORST_FIRST = (Status.ERROR, Status.FAILED, Status.INCONCLUSIVE)


def count_statuses(report: Report) -> dict[Status, int]:
    """How many checks ended in which way."""
    statuses = [check.status for check in report.checks]
    return {status: statuses.count(status) for status in Status}


def describe_counts(report: Report) -> str:
    """How many of how many checks passed, and how the others ended."""
    counts = count_statuses(report)
    errors = f"{counts[Status.ERROR]} error{'' if counts[Status.ERROR] == 1 else 's'}"
    others = {
        Status.FAILED: f"{counts[Status.FAILED]} failed",
        Status.ERROR: errors,
        Status.INCONCLUSIVE: f"{counts[Status.INCONCLUSIVE]} inconclusive",
        Status.SKIPPED: f"{counts[Status.SKIPPED]} skipped",
    }
    head = f"{counts[Status.PASSED]} of {len(report.checks)} checks passed"
    return ", ".join([head, *(text for status, text in others.items() if counts[status]), *_describe_allowed(report)])


def _describe_allowed(report: Report) -> list[str]:
    """How many differences were let through, by how many allowances: a pass with them is not one without."""
    places = [
        number
        for check in report.checks
        if check.id.startswith(ALLOWED) and isinstance(number := check.measurements.get("places"), int)
    ]
    return [f"{counted(sum(places), 'difference')} allowed by {counted(len(places), 'allowance')}"] if places else []


def describe_compared(report: Report) -> str:
    """How much was compared bit for bit; empty where nothing was."""
    tensors = total(report, "tensors_compared")
    num_bytes = total(report, "compared_bytes")
    if not tensors:
        return ""
    of_state = f", {format_bytes(num_bytes)} of state" if num_bytes else ""
    return f"{tensors:,} tensors compared bit for bit{of_state}"


def total(report: Report, name: str) -> int:
    """The sum of a measurement over all checks that were decided; 0 where none has it.

    The control's is left out: there the reference is held against itself.
    """
    decided = (
        check for check in report.checks if check.status in (Status.PASSED, Status.FAILED) and check.id != _CONTROL
    )
    values = (check.measurements.get(name) for check in decided)
    return sum(value for value in values if isinstance(value, int) and value.bit_length() < 64)


def verdict_line(report: Report) -> str:
    """The last word: `FAILED: 3 of 14 checks passed, 9 failed, 2 skipped; ...`."""
    compared = describe_compared(report)
    parts = [describe_counts(report), *([compared] if compared else [])]
    return f"{report.verdict.upper()}: {'; '.join(parts)}, in {report.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeliest:
    """Why a verdict is what it is.

    Args:
        place: where it is so: a tensor, a module, a configuration, or a check.
        releases: in which releases, where several are compared; empty otherwise.
    """

    cause: str
    place: str
    releases: str = ""

    @property
    def where(self) -> str:
        """The place, and the releases: a line of its own, for a cause is a sentence."""
        return f"{self.place}{f', {self.releases}' if self.releases else ''}"


def likeliest_cause(report: Report, roots: Sequence[Root] | None = None) -> Likeliest | None:
    """Why the verdict is what it is, and where; None for one that passed."""
    if report.verdict is Status.PASSED:
        return None
    errors = [root for root in (find_roots(report) if roots is None else roots) if root.is_error]
    if errors:
        finding = errors[0].found.finding
        return Likeliest(
            cause=prose(finding.cause or finding.message, _MAX_CAUSE),
            place=line(finding.location, _MAX_LOCATION),
            releases=_in_releases(report, errors),
        )
    for status in _WORST_FIRST:
        for check in report.checks:
            if check.status is status:
                return Likeliest(cause=why(check), place=line(check.id))
    return None


def _in_releases(report: Report, errors: Sequence[Root]) -> str:
    """The releases that have the first error's cause and remedy, in the order in which they were compared."""
    first = errors[0].found.finding
    alike = {
        root.found.check
        for root in errors
        if root is errors[0] or (first.cause and _reasons(root.found.finding) == _reasons(first))
    }
    grids = [grid for check in report.checks if (grid := grid_of(check)) is not None]
    names = [name for grid in grids for name, check in zip(grid.releases, grid.checks, strict=True) if check in alike]
    return f"in {_listed(names, _MAX_NAMED)}" if names else ""


def _reasons(finding: Finding) -> tuple[str | None, str | None]:
    return finding.cause, finding.remedy


def why_not_passed(report: Report, follows: Mapping[str, str]) -> list[tuple[Status, str]]:
    """A line a status: which checks ended in it, and why; those of one reason together.

    Args:
        follows: failed checks whose findings all follow from another check's, and that check.
    """
    lines = []
    for status in (Status.SKIPPED, Status.INCONCLUSIVE, Status.ERROR, Status.FAILED):
        reasons: dict[str, list[str]] = {}
        for check in report.checks:
            if check.status is status:
                root = follows.get(check.id)
                reason = prose(check.reason or (f"from {root}" if root else ""), _MAX_REASON)
                reasons.setdefault(reason, []).append(line(check.id))
        if reasons:
            parts = [f"{_names(ids)}{f' ({reason})' if reason else ''}" for reason, ids in reasons.items()]
            more = [f"{len(parts) - _MAX_NAMED} reasons more"] if len(parts) > _MAX_NAMED else []
            lines.append((status, f"{status}: {'; '.join(parts[:_MAX_NAMED] + more)}"))
    return lines


def _names(ids: Sequence[str]) -> str:
    more = [f"{len(ids) - _MAX_NAMED} more"] if len(ids) > _MAX_NAMED else []
    return ", ".join([*ids[:_MAX_NAMED], *more])


def why(check: CheckResult, measurements: Measurements | None = None) -> str:
    """A check in a few words: its reason, or what it measured and found.

    Args:
        measurements: those of its measurements that are told; all of them if None.
    """
    if reason := prose(check.reason or ""):
        return reason
    told = check.measurements if measurements is None else measurements
    measured = describe_measurements(told, verb=_VERBS.get(check.id, "compared"))
    if check.status is Status.PASSED:
        return measured
    found = counted(len(check.findings), "finding") if check.findings else ""
    return "; ".join(part for part in (measured, found) if part) or "no reason was recorded"


def subject_fields(subject: SubjectRecord) -> list[tuple[str, str]]:
    """Everything by which a subject was loaded, by name; what is not known is left out."""
    fields = [
        ("target", subject.target),
        ("checkpoint", subject.checkpoint),
        ("digest", subject.checkpoint_digest),
        ("cosmos", subject.cosmos),
        ("dtype", subject.dtype),
        ("device", subject.device),
        ("attention", subject.attn),
        ("seed", subject.seed),
    ]
    return [(name, line(value)) for name, value in fields if value is not None]


def describe_subject(subject: SubjectRecord) -> str:
    """A subject on one line, with the start of its checkpoint's digest."""
    digest = subject.checkpoint_digest
    target, *others = subject_fields(replace(subject, checkpoint_digest=digest and digest[:SHORT_DIGEST]))
    return ", ".join([target[1], *(f"{name} {value}" for name, value in others)])


def describe_libraries(environment: Environment | None) -> str:
    """The libraries by which subjects were run, and on what; empty where that is not known."""
    if environment is None:
        return ""
    packages = [(name, environment.packages.get(name)) for name in _LIBRARIES]
    parts = [("Python", environment.python), *packages, ("CUDA", environment.cuda), ("on", environment.gpu)]
    return line(", ".join(f"{name} {value}" for name, value in parts if value is not None))


def describe_printed(subject: SubjectRecord, shown: int | None = None) -> str:
    """How much a subject printed, and how much of it is shown, where that is not all."""
    total = counted(subject.printed_bytes, "byte")
    kept = len((subject.printed or "").encode("utf-8", "backslashreplace"))
    part = kept if shown is None else shown
    what = "the report keeps" if shown is None else "the last"
    return f"printed {total}" if part >= subject.printed_bytes else f"printed {total}, of which {what} {part:,}"


def describe_plan(report: Report) -> str | None:
    """What was to be compared."""
    if report.plan is None:
        return None
    parts = (("probe", report.plan.probes), ("section", report.plan.sections))
    return "; ".join(f"{counted(len(names), what)} ({_listed(names)})" for what, names in parts)


def _listed(names: Sequence[str], at_most: int = 30) -> str:
    shown = [line(name, 60) for name in names[:at_most]]
    return ", ".join([*shown, *([f"{len(names) - at_most} more"] if len(names) > at_most else [])]) or "none"


def flat_environment(environment: Environment | None) -> list[tuple[str, str]]:
    """Names and values, packages among them; what is not there is left out."""
    if environment is None:
        return []
    values: list[tuple[str, object]] = [
        *((name, getattr(environment, name)) for name in ("python", "platform", "machine", "processor")),
        ("processor cores", environment.cpu_count),
        ("threads of torch", environment.torch_threads),
        *environment.packages.items(),
        ("CUDA", environment.cuda),
        ("GPU", environment.gpu),
        ("GPUs", environment.gpu_count),
    ]
    if environment.calibration_seconds is not None:
        values.append(("speed (a fixed computation)", f"{environment.calibration_seconds:.3g} s"))
    return [(line(name), line(value)) for name, value in values if value is not None]
