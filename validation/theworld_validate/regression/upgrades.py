"""A baseline of another environment: whether the upgrade changed more than rounding, told from two fingerprints.

In: two reports and their places, with a fingerprint and its sketches beside each (`theworld-validate fingerprint
--sketch --truth auto --output DIR` writes them there). Out: the check of the environment, by the referee's judgement.
Each fingerprint must be of what its report is about, made where its report was made; else nobody can say.
"""

from dataclasses import replace
from pathlib import Path

from theworld_validate.documents import fingerprint, report
from theworld_validate.documents.fingerprint import FingerprintFile, find_truth, read_fingerprint, why_not_compared
from theworld_validate.parity.diff_files import compare_files
from theworld_validate.regression.keys import differing_fields, differing_keys, in_words
from theworld_validate.results import CheckResult, InputError, Report, Status, combine

_JUDGED = ("candidate", "model")  # the roles of what a report is about


def only_baseline_in(folder: Path) -> Path | None:
    """The baseline in a folder that has those of other environments: the only one; None where there is none.

    Raises:
        InputError: if there are several.
    """
    from theworld.checkpoints.error_text import one_line

    found = sorted(place.parent for place in folder.glob(f"*/{report.FILE_NAME}"))
    if len(found) > 1:
        names = ", ".join(place.name for place in found[:5])
        raise InputError(f"{one_line(folder)}: several baselines of other environments; name one: {one_line(names)}")
    return found[0] if found else None


def judge_upgrade(check: CheckResult, baseline: tuple[Path, Report], current: tuple[Path, Report]) -> CheckResult:
    """Settle the check of the environment, if the fingerprints beside two reports allow it.

    Args:
        check: `regress.environment`, inconclusive because the environments differ.
        baseline, current: each report and its place, a file or a folder.

    Raises:
        InputError: if a fingerprint is there and cannot be read.
    """
    files: list[FingerprintFile] = []
    for place, own in (baseline, current):
        beside = (place if place.is_dir() else place.parent) / fingerprint.FILE_NAME
        if not beside.is_file():
            return _undecided(check, beside, "is missing")
        file = read_fingerprint(beside)
        if (why := _why_not_of(file, own)) is not None:
            return _undecided(check, beside, why)
        files.append(file)
    truth_at = find_truth(baseline[0] if baseline[0].is_dir() else baseline[0].parent)
    truth = None if truth_at is None else read_fingerprint(truth_at)
    if (why := why_not_compared(*files, *([] if truth is None else [truth]))) is not None:
        return _undecided(check, baseline[0], f"cannot be compared: {why}")
    checks = list(compare_files(*files, accept_rounding=True, truth=truth))
    return _as_one(check, checks)


def _undecided(check: CheckResult, place: Path, why: str) -> CheckResult:
    from theworld.checkpoints.error_text import one_line

    how = "make it there with theworld-validate fingerprint --sketch --truth auto"
    return replace(check, reason=f"{check.reason}; undecidable: {one_line(place)} {why}; {how}")


def _why_not_of(file: FingerprintFile, own: Report) -> str | None:
    """Why a fingerprint is not of what the report beside it is about; None if it is."""
    if own.environment is None:
        return "has a report that does not say where it was made"
    if differences := differing_keys(own.environment, file.environment):
        return f"was made elsewhere than its report: {in_words(differences[:1])}"
    judged = [subject for subject in own.subjects if subject.role in _JUDGED]
    if not judged:
        return "has a report that names no model"
    for subject in judged:
        if other := differing_fields(subject, file.subject):
            return f"is of another {other[0].replace('_', ' ')} than its report"
        if subject.checkpoint_digest is None:
            return "is of a checkpoint whose content its report does not name"
    return None


def _as_one(check: CheckResult, checks: list[CheckResult]) -> CheckResult:
    """All that two fingerprints say, as the one check of the environment."""
    status = combine([one.status for one in checks])
    judged = next(one for one in checks if one.id == "parity.judgement")
    worst = next((one for one in checks if one.status is status and one.id != judged.id), judged)
    errors = [finding for one in checks for finding in one.findings if finding.severity == "error"]
    roots = [finding for finding in errors if finding.explained_by is None]
    said = judged.reason if status is Status.PASSED or judged.status is status else f"{worst.id}: {worst.reason}"
    cause = f"the environment changed more than rounding: {check.reason}"
    remedy = "find what the new release or device computes otherwise, or take the new report as the baseline: --update"
    return replace(
        check,
        status=status,
        reason=f"{check.reason}; {said}",
        measurements={**check.measurements, **judged.measurements},
        findings=tuple(replace(finding, cause=finding.cause or cause, remedy=remedy) for finding in roots or errors),
    )
