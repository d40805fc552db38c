"""A baseline of another environment: whether that changed more than rounding, told from two fingerprints.

In: the places of two reports, with a fingerprint and its sketches beside each (`theworld-validate fingerprint --sketch
--truth auto --output DIR` writes both files there). Out: the check of the environment, by the referee's judgement.
"""

from dataclasses import replace
from pathlib import Path

from theworld_validate.compare.judgement import Judgement, Verdict, judge
from theworld_validate.documents import fingerprint, report
from theworld_validate.documents.fingerprint import find_truth, read_fingerprint
from theworld_validate.results import CheckResult, InputError, Status

_STATUS = {
    Verdict.IDENTICAL: Status.PASSED,
    Verdict.EQUIVALENT: Status.PASSED,
    Verdict.DIFFERENT: Status.FAILED,
    Verdict.UNDECIDABLE: Status.INCONCLUSIVE,
}


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


def judge_environment(check: CheckResult, baseline: Path, current: Path) -> CheckResult:
    """Settle the check of the environment, if the fingerprints beside two reports allow it.

    Args:
        check: `regress.environment`, inconclusive because the environments differ.
        baseline, current: the reports, or their folders.

    Raises:
        InputError: if a fingerprint is there and cannot be read.
    """
    places = [_beside(baseline), _beside(current)]
    missing = [place for place in places if not place.is_file()]
    if missing:
        from theworld.checkpoints.error_text import one_line

        how = "make it with theworld-validate fingerprint --sketch --truth auto --output that folder"
        return replace(check, reason=f"{check.reason}; undecidable: {one_line(missing[0])} is missing; {how}")
    reference, candidate = map(read_fingerprint, places)
    truth = next((found for place in places if (found := find_truth(place)) is not None), None)
    judged = judge(reference, candidate, None if truth is None else read_fingerprint(truth))
    return _as_check(check, judged)


def _beside(place: Path) -> Path:
    return (place if place.is_dir() else place.parent) / fingerprint.FILE_NAME


def _as_check(check: CheckResult, judged: Judgement) -> CheckResult:
    worst = judged.worst
    errors = [*judged.exact, *(finding for part in judged.parts for finding in part.findings)]
    cause = f"the environment changed more than rounding: {check.reason}"
    remedy = "find what the new release or device computes otherwise, or take the new report as the baseline: --update"
    return replace(
        check,
        status=_STATUS[judged.verdict],
        reason=f"{check.reason}; {judged.verdict}: {judged.reason}",
        measurements={
            **check.measurements,
            "verdict": str(judged.verdict),
            "worst_ratio": None if worst is None else round(worst.ratio, 3),
            "worst_place": None if worst is None else worst.location,
        },
        findings=(*(replace(f, cause=cause, remedy=remedy) for f in errors), *judged.computing),
    )
