"""Causes measured: where something differs, both sides are loaded once more, and the tensors in question are compared.

In: checks, and the comparison that they are of. Out: the same checks, their findings explained.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from theworld_validate.documents.observations import probe_of
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.judge import Comparison
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.looking import LOOK, MEASURE, Question
from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run

_MAX_WEIGHTS = 8  # that the second look measures


def find_causes(
    reference: Loader,
    candidate: Loader,
    checks: list[CheckResult],
    comparison: Comparison,
    run: Run,
    *,
    threads: int | None = None,
    save_to: Path | None = None,
) -> list[CheckResult]:
    """Take the second look where something failed, and say of each finding why, or what explains it."""
    findings = [f for check in checks if check.status is Status.FAILED for f in check.findings]
    if not findings:
        return checks
    measured: dict[str, Any] = {}
    if comparison.candidate.ended is None:
        run.progress("looking for the cause")
        measured = look_at_both(reference, candidate, findings, run, threads=threads, save_to=save_to)
    evidence = gather_evidence(comparison, measured)
    explained = explain_checks(checks, evidence)
    place = measured.get("divergence_place")
    if place is None:
        return explained
    own = {name: value for name, value in measured.items() if name.startswith("divergence_")}
    return [
        replace(check, measurements={**check.measurements, **own})
        if check.measurements.get("probe") == probe_of(place)
        else check
        for check in explained
    ]


def look_at_both(
    reference: Loader,
    candidate: Loader,
    findings: Sequence[Finding],
    run: Run,
    *,
    threads: int | None,
    save_to: Path | None,
) -> dict[str, Any]:
    """Load both sides again, and measure the weights and the first place of a trace that are in question.

    Returns:
        The values of `looking.measure`, and "candidate_repeats"; empty where nothing is in question or a look failed.
    """
    weights = tuple(f.location for f in findings if f.code == "parameters.digest")[:_MAX_WEIGHTS]
    place = next((f.location for f in findings if f.section == "trace" and f.field != "raised"), None)
    if not weights and place is None:
        return {}
    question = Question(weights=weights, probe=None if place is None else probe_of(place), place=place)
    with tempfile.TemporaryDirectory(prefix="theworld-look-") as scratch:
        names = ("reference", "candidate")
        files = {name: str(Path(scratch, f"{name}.safetensors")) for name in names}
        jobs = [
            Job(
                name=name,
                function=LOOK,
                arguments={
                    "loader": loader,
                    "question": question,
                    "file": files[name],
                    "repeat": name == "candidate",
                },
                is_subject=True,
                threads=threads,
            )
            for name, loader in zip(names, (reference, candidate), strict=True)
        ]
        looks = run.do(jobs)
        if not all(look.is_whole for look in looks):
            return {}
        arguments = {**files, "place": place, "save_to": None if save_to is None else str(save_to)}
        (measured,) = run.do([Job(name="measuring", function=MEASURE, arguments=arguments)])
    if not measured.is_whole:
        return {}
    return {**measured.values, "candidate_repeats": looks[1].values.get("repeats")}
