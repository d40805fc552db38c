"""The judge: two fingerprints to checks. It reads documents only; no model is near.

In: a plan, what the reference and the candidate delivered, and the control. Out: one check for each section of state,
one for each probe, one for the files and one for the round trip. What is not there is never a pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from theworld_validate.compare.differences import diff_section, diff_trace, divergence_by_module
from theworld_validate.compare.file_problems import file_findings
from theworld_validate.documents.observations import (
    NOT_ASKED,
    PROBE_SECTIONS,
    SAVED_SECTIONS,
    STATE_SECTIONS,
    Failure,
    Fingerprint,
    Section,
    num_tensors,
    parameter_gradients,
    probe_of,
)
from theworld_validate.parity.naming import probe_check_id
from theworld_validate.parity.round_trip import compare_round_trips
from theworld_validate.parity.times import Observed
from theworld_validate.results import CheckResult, Finding, Measurement, Plan, Status

MAY_BE_EMPTY = {"buffers", "globals"}  # a model without buffers is a model
NOTHING = "nothing was compared"
REFERENCE_RAISES = "the reference itself cannot answer this"
NOISE = (
    "the reference itself gives other results when run again: something in it draws random numbers (a hook, dropout "
    "that is on), or a kernel is not deterministic"
)
QUIET = (
    "look for what draws numbers where it first differs; if nothing does, compare on another device (deterministic "
    "kernels are asked for already on CUDA)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side delivered.

    Args:
        fingerprint: all parts that came.
        ended: how its worker failed, in one line; None where it delivered all that it was asked.
    """

    fingerprint: Fingerprint
    ended: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that a verdict rests on.

    Args:
        plan: what must be there.
        reference, candidate: both sides.
        control: the reference's second run; None where there was none, as between files.
        files: the section "files" of the checkpoint that both were loaded from; None to take it from the sides.
        saved: the candidate's state in the worker that saved it; None where that was the one that observed it.
        seconds: what observing took, of both sides together; nothing of what was not timed.
    """

    plan: Plan
    reference: Side
    candidate: Side
    control: Side | None = None
    files: Section | None = None
    saved: Fingerprint | None = None
    seconds: Mapping[Observed, float] = field(default_factory=dict)

    def took(self, kind: str, name: str) -> float:
        """The seconds of a section or a probe."""
        return self.seconds.get(Observed(kind, name), 0.0)

    @property
    def expected(self) -> Fingerprint:
        """What the reference delivered."""
        return self.reference.fingerprint

    @property
    def actual(self) -> Fingerprint:
        """What the candidate delivered."""
        return self.candidate.fingerprint


def judge(comparison: Comparison) -> Iterator[CheckResult]:
    """Compare two sides on everything that the plan asks for."""
    plan = comparison.plan
    noise: dict[str, Finding] = {}  # what the control marks, and the finding that explains what is seen there
    if comparison.control is not None:
        control = check_control(comparison)
        noise = {_group(finding): control.findings[0] for finding in control.findings}
        yield control
    whole = [name for name in (*STATE_SECTIONS, "gradients") if name in plan.sections]
    if "files" in plan.sections:
        yield _check_files(comparison, seconds=comparison.took("section", "files"))
    for section in whole:
        seconds = comparison.took("section", section)
        yield _check_section(section, comparison, seconds=seconds, noise=noise.get(section))
    taken: set[str] = set()
    for name in plan.probes:
        check_id = probe_check_id(name, taken)
        seconds = comparison.took("probe", name)
        yield _check_probe(name, check_id, comparison, seconds=seconds, noise=noise.get(name))
    if "round_trip" in plan.sections:
        yield _check_round_trip(comparison, seconds=comparison.took("section", "round_trip"))


def _group(finding: Finding) -> str:
    return "gradients" if finding.section == "gradients" else probe_of(finding.location)


def check_control(comparison: Comparison) -> CheckResult:
    """Compare two runs of the reference; a difference, or a run that is not whole, makes the verdict inconclusive."""
    assert comparison.control is not None
    expected, again = comparison.expected, comparison.control.fingerprint
    sections = [name for name in (*PROBE_SECTIONS, "gradients") if name in comparison.plan.sections]
    seen = [
        finding
        for name in sections
        for finding in diff_section(name, expected.sections.get(name, {}), again.sections.get(name, {}))
    ]
    findings = [replace(finding, cause=NOISE, remedy=QUIET) for finding in seen[:1]]
    findings += [_follows(finding, findings[0]) for finding in seen[1:]]
    missing = [name for name in sections if name not in expected.sections or name not in again.sections]
    compared = sum(num_tensors(expected.sections.get(name, {})) for name in sections)
    status, reason = Status.PASSED, None
    if comparison.reference.ended or comparison.control.ended:
        status, reason = Status.INCONCLUSIVE, comparison.reference.ended or comparison.control.ended
    elif missing:
        status, reason = Status.INCONCLUSIVE, f"the reference was not run twice: {', '.join(missing)} is missing"
    elif findings:
        status, reason = Status.INCONCLUSIVE, "two runs of the reference differ"
    elif not compared:
        status, reason = Status.INCONCLUSIVE, NOTHING
    return CheckResult(
        id="parity.control",
        status=status,
        reason=reason,
        seconds=comparison.took("run", "control"),
        measurements={"tensors_compared": compared},
        findings=tuple(findings),
    )


def missing_evidence(section: str, comparison: Comparison, probe: str | None = None) -> str | None:
    """Why a section, or a probe's part of it, cannot be judged; None where both sides have it."""
    absent = []
    for name, side in (("the reference", comparison.reference), ("the candidate", comparison.candidate)):
        observed = side.fingerprint.sections.get(section)
        if observed is None or (probe is not None and not side.fingerprint.subset(section, f"{probe}/")):
            absent.append((name, side))
    if not absent:
        return None
    what = section if probe is None else f"{section} of {probe}"
    endings = [f"{name}: {side.ended}" for name, side in absent if side.ended]
    whose = "both sides" if len(absent) == 2 else absent[0][0]
    return f"evidence is missing: {what} of {whose}" + (f" ({'; '.join(endings)})" if endings else "")


def failure_findings(section: str, comparison: Comparison, probe: str | None = None) -> tuple[list[Finding], bool]:
    """What raised while a section was observed: findings, and whether the candidate alone is to blame.

    An error that both sides raise says nothing of the candidate.
    """
    ours = comparison.expected.failures_of(section, probe)
    theirs = comparison.actual.failures_of(section, probe)
    findings = [_failure_finding("reference", failure) for failure in ours]
    findings += [_failure_finding("candidate", failure) for failure in theirs]
    return list(dict.fromkeys(findings)), bool(theirs) and not ours


def _failure_finding(who: str, failure: Failure) -> Finding:
    what = failure.section if failure.probe is None else f"{failure.probe}, {failure.section}"
    # A round trip has several steps, and its failures name the one that raises.
    says = f"'s {failure.error}" if failure.section == "round_trip" else f" raises {failure.error}"
    blame = "its own code fails" if failure.library is None else f"{failure.library} raised it, called by the {who},"
    why = f"{blame} at {failure.place}" + (f": {failure.code}" if failure.code else "")
    remedy = "mend it there" if who == "candidate" else "the reference cannot be asked this; mend that first"
    if failure.library is not None:
        what_was_called = failure.called or failure.function
        why += f"; what was called is {what_was_called}" if what_was_called else ""
        if who == "candidate" and failure.called:
            remedy = "let the candidate take what the base class takes, by the same names in forward's signature"
        elif who == "candidate":
            remedy = f"run {failure.function or 'this call'} alone on the candidate"
    if failure.place == NOT_ASKED:
        says = f" cannot be asked this: {failure.error}"
        why, remedy = "as it was loaded, this question cannot be put to it", "load it otherwise to have this compared"
    return Finding(
        code=f"{failure.section}.raised",
        location=failure.probe or failure.section,
        message=f"{what}: the {who}{says}",
        actual=failure.place,
        cause=why,
        remedy=remedy,
        section=failure.section,
        field="raised",
    )


def check_files(observed: Section, *, others: Section | None = None, seconds: float = 0.0) -> CheckResult:
    """The checkpoint's files; and with `others`, whether two sides saw the same ones."""
    findings = file_findings(observed)
    if others is not None:
        findings += diff_section("files", observed, others)
    failed = any(finding.severity == "error" for finding in findings)
    summary = observed.get("(summary)", {})
    compared = any(summary.values())
    return CheckResult(
        id="parity.files",
        status=Status.FAILED if failed else Status.PASSED if compared else Status.INCONCLUSIVE,
        reason=None if failed or compared else NOTHING,
        seconds=seconds,
        measurements={name: value for name, value in summary.items() if isinstance(value, int)},
        findings=tuple(findings),
    )


def _check_files(comparison: Comparison, *, seconds: float) -> CheckResult:
    if comparison.files is not None:
        return check_files(comparison.files, seconds=seconds)
    if (missing := missing_evidence("files", comparison)) is not None:
        return CheckResult(id="parity.files", status=Status.INCONCLUSIVE, reason=missing, seconds=seconds)
    own = [side.fingerprint.sections["files"] for side in (comparison.reference, comparison.candidate)]
    return check_files(own[0], others=own[1], seconds=seconds)


def _check_section(section: str, comparison: Comparison, *, seconds: float, noise: Finding | None) -> CheckResult:
    expected, actual = comparison.expected, comparison.actual
    observed = expected.sections.get(section, {})
    failures, candidates_fault = failure_findings(section, comparison)
    missing = missing_evidence(section, comparison)
    findings = list(failures)
    if missing is None:
        findings += _explained(noise, diff_section(section, observed, actual.sections[section]))
    compared = num_tensors(_counted(section, observed)) if section in expected.num_bytes else len(observed)
    measurements: dict[str, Measurement] = {"compared": compared}
    if section in expected.num_bytes:
        measurements = {"tensors_compared": compared, "compared_bytes": expected.num_bytes[section]}
    status, reason = _decide(findings, compared, may_be_empty=section in MAY_BE_EMPTY)
    if missing is not None and not candidates_fault:
        status, reason = Status.INCONCLUSIVE, missing
    if failures and not candidates_fault:
        status, reason = Status.INCONCLUSIVE, REFERENCE_RAISES
    if noise is not None:
        status, reason = Status.INCONCLUSIVE, "the control differs here"
    return CheckResult(
        id=f"parity.{section}",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements=measurements,
        findings=tuple(findings),
    )


def _counted(section: str, observed: Section) -> Section:
    """The observations that can prove something: losses alone say nothing of the gradients."""
    return parameter_gradients(observed) if section == "gradients" else observed


def _decide(findings: Sequence[Finding], compared: int, *, may_be_empty: bool = False) -> tuple[Status, str | None]:
    if any(finding.severity == "error" for finding in findings):
        return Status.FAILED, None
    if compared:
        return Status.PASSED, None
    return (Status.PASSED, "neither side has any") if may_be_empty else (Status.INCONCLUSIVE, NOTHING)


def _check_probe(
    name: str, check_id: str, comparison: Comparison, *, seconds: float, noise: Finding | None
) -> CheckResult:
    expected, actual = comparison.expected, comparison.actual
    observed = {s: (expected.subset(s, f"{name}/"), actual.subset(s, f"{name}/")) for s in PROBE_SECTIONS}
    counts = {section: num_tensors(ours) for section, (ours, _) in observed.items()}
    lacking = {section: missing_evidence(section, comparison, name) for section in PROBE_SECTIONS}
    # What one side has nothing of is missing evidence, and no place that differs.
    sides = {s: pair if lacking[s] is None else ({}, {}) for s, pair in observed.items()}
    failures: list[Finding] = []
    blames: list[bool] = []
    for section in PROBE_SECTIONS:
        found, is_candidates = failure_findings(section, comparison, name)
        failures += found
        blames += [is_candidates] * bool(found)
    after_trace = [f for section in ("outputs", "generation") for f in diff_section(section, *sides[section])]
    numbers, is_proof = _non_finite(name, *observed["outputs"])
    after_trace = [f for f in after_trace if f.location != f"{name}/non_finite"]
    first = diff_trace(*sides["trace"])
    missing = lacking["trace"] or lacking["outputs"]
    if any(observed["generation"]) or "generation" not in expected.sections or "generation" not in actual.sections:
        missing = missing or lacking["generation"]  # it is not asked of every probe
    differing = _explained(noise, [*([first] if first is not None else []), *after_trace])
    findings = [*numbers, *differing, *failures]
    status, reason = _decide(findings, min(counts["trace"], counts["outputs"]))
    if missing is not None and not any(blames) and status is not Status.FAILED:
        status, reason = Status.INCONCLUSIVE, missing
    if failures and not all(blames):
        status, reason = Status.INCONCLUSIVE, REFERENCE_RAISES
    if not is_proof:
        findings = [_follows(finding, numbers[0]) if finding in failures else finding for finding in findings]
        status, reason = Status.INCONCLUSIVE, "the reference's own outputs are not finite: they prove nothing"
    if noise is not None:
        status, reason = Status.INCONCLUSIVE, "the control differs on this probe"
    return CheckResult(
        id=check_id,
        status=status,
        reason=reason,
        seconds=seconds,
        measurements={
            "probe": name,
            "tensors_compared": sum(counts.values()),
            "module_outputs_compared": counts["trace"],
            "outputs_compared": counts["outputs"],
            "generations_compared": counts["generation"],
            "differing_outputs": len({finding.location for finding in after_trace}),
            "divergence": divergence_by_module(*sides["trace"]),
        },
        findings=tuple(findings),
    )


def _explained(noise: Finding | None, findings: Sequence[Finding]) -> list[Finding]:
    """Differences in what the control marks: where the reference differs from itself, no other cause can be seen."""
    return list(findings) if noise is None else [_follows(finding, noise) for finding in findings]


def _follows(finding: Finding, root: Finding) -> Finding:
    """What another finding explains: a difference by noise; or sampling, which raises where outputs are not finite."""
    return replace(finding, cause=None, remedy=None, explained_by=root.key)


def _non_finite(name: str, expected: Section, actual: Section) -> tuple[list[Finding], bool]:
    """Findings for outputs that are not finite, and whether the reference's are: equal NaNs prove nothing."""
    ours, theirs = expected.get(f"{name}/non_finite"), actual.get(f"{name}/non_finite")
    findings = []
    for who, seen in (("reference", ours), ("candidate", theirs)):
        if seen is not None:
            first = seen.get("first") or "the model's output"
            findings.append(
                Finding(
                    code="outputs.non_finite",
                    location=f"{name}/{first}",
                    message=f"{name}: the {who}'s outputs are not finite; the first such module is {first}",
                    actual=seen.get("non_finite"),
                    cause="an overflow in this dtype, or weights that are not finite",
                    remedy="compare in bfloat16 or float32, and run theworld-validate files on the checkpoint",
                    section="outputs",
                    field="non_finite",
                )
            )
    return findings, ours is None


def _missing_round_trip(comparison: Comparison) -> str | None:
    """Why a round trip cannot be judged: it is missing itself, or the state that it started from is."""
    missing = missing_evidence("round_trip", comparison)
    if missing is not None:
        return missing
    if comparison.saved is not None:
        absent = [name for name in SAVED_SECTIONS if name not in comparison.saved.sections]
        return f"evidence is missing: {absent[0]} of the candidate before it was saved" if absent else None
    return next((why for name in SAVED_SECTIONS if (why := missing_evidence(name, comparison)) is not None), None)


def _check_round_trip(comparison: Comparison, *, seconds: float) -> CheckResult:
    failures, candidates_fault = failure_findings("round_trip", comparison)
    missing = _missing_round_trip(comparison)
    compared, findings, own_fault = (0, [], None)
    if missing is None:
        compared, findings, own_fault = compare_round_trips(comparison.expected, comparison.actual, comparison.saved)
    findings = [*failures, *findings]
    status, reason = _decide(findings, compared)
    if missing is not None and not candidates_fault:
        status, reason = Status.INCONCLUSIVE, missing
    if failures and not candidates_fault:
        status, reason = Status.INCONCLUSIVE, REFERENCE_RAISES
    if own_fault is not None:
        status, reason = Status.INCONCLUSIVE, own_fault
    return CheckResult(
        id="parity.round_trip",
        status=status,
        reason=reason,
        seconds=seconds,
        measurements={
            "tensors_compared": compared,
            "compared_bytes": comparison.actual.num_bytes.get("round_trip", 0),
        },
        findings=tuple(findings),
    )
