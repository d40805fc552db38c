"""What importing and loading change of a process's global state, seen from fresh processes.

In: checkpoints, and modules to import. Out: one check for each of theworld, its world branch, diffusers' Cosmos
pipeline and every named module. Each runs after torch and what it builds on, so that it answers for itself alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from theworld_validate.audits.fresh_process import End, FreshProcess
from theworld_validate.results import CheckResult, Finding, InputError, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET, Target
from theworld_validate.workers.run import Run

# A world branch that is new is initialised: it draws random numbers by design.
_ALLOWED = {"load with the branch on": {"rng_state_cpu", "rng_state_cuda"}}
# Third-party imports add these; they change no result.
_HARMLESS = ("environment.", "warnings_filters")
_COSMOS_PIPELINE = "diffusers:Cosmos2VideoToWorldPipeline"


def check_globals(
    target: Target, *, modules: Sequence[str] = (), run: Run, process: FreshProcess | None = None
) -> Iterator[CheckResult]:
    """Compare global state before and after each stage, in a fork of a fresh process for each target, all at once.

    Args:
        target: what is loaded; the world branch's stages are left out if it has no `cosmos`.
        modules: further modules to import.
        process: one that was started ahead, and may have its plans already (`begin_globals`); a new one if None.

    Raises:
        InputError: if a module cannot be imported, or the checkpoint cannot be used.
    """
    run.progress("globals, in fresh processes")
    process = process or FreshProcess()
    try:
        if not process.is_following:
            begin_globals(process, target, modules=modules)
        ends = process.ends(timeout_seconds=run.timeout_seconds)
    finally:
        process.kill()
    for name, end in ends.items():
        check_id = f"globals.{re.sub(r'[^A-Za-z0-9_-]', '-', name)[:60]}"
        if end.stages is not None:
            yield judge_stages(check_id, end.stages, seconds=end.seconds)
        elif end.wrong_input is not None:
            raise InputError(end.wrong_input)
        elif name in modules and end.error is not None:
            raise InputError(f"--import {name}: {end.error}")
        else:
            yield _ended(check_id, name, end)


def begin_globals(process: FreshProcess, target: Target, *, modules: Sequence[str] = ()) -> None:
    """Give a process the plans of `check_globals`, which it follows while something else is done."""
    plans = {"theworld": _theworld_plan(target)}
    if target.cosmos is not None:
        plans["cosmos_pipeline"] = _import_plan("import", {"get": _COSMOS_PIPELINE})
    process.follow(plans | {name: _import_plan(f"import {name}", {"import": name}) for name in modules})


def _ended(check_id: str, name: str, end: End) -> CheckResult:
    finding = Finding(
        code="globals.ended",
        location=name,
        message=f"{name}: {end.error or end.ended}",
        cause="importing or loading it ends the process or raises",
        remedy="import it alone in a fresh interpreter to see why",
    )
    return CheckResult(id=check_id, status=Status.FAILED, seconds=end.seconds, findings=(finding,))


def _theworld_plan(target: Target) -> dict[str, Any]:
    def load(name: str, cosmos: str | None = None) -> dict[str, Any]:
        return {"load": asdict(Subject.of(target, name, cosmos=cosmos))}

    stages = [
        ["import theworld", {"get": CANDIDATE_TARGET}],  # before anything that loads: the harness itself uses theworld
        [None, load(REFERENCE_TARGET)],  # what the base class changes is not theworld's
        ["load with the branch off", load(CANDIDATE_TARGET)],
    ]
    if target.cosmos is not None:
        stages += [
            ["import diffusers' VAE", {"get": "diffusers:AutoencoderKLWan"}],
            ["load with the branch on", load(CANDIDATE_TARGET, target.cosmos)],
        ]
    return {"baseline": [{"get": REFERENCE_TARGET}], "stages": stages}


def _import_plan(title: str, step: dict[str, Any]) -> dict[str, Any]:
    return {"baseline": [{"import": "torch"}, {"get": REFERENCE_TARGET}], "stages": [[title, step]]}


def judge_stages(check_id: str, stages: Sequence[dict[str, Any]], *, seconds: float) -> CheckResult:
    """Turn the changes of each stage into findings.

    Args:
        stages: as `global_probe` gives them.
    """
    findings = []
    rows = []
    for stage in stages:
        allowed = _ALLOWED.get(stage["stage"], set())
        for field, (before, after) in stage["changes"].items():
            is_allowed = field in allowed
            rows.append({"stage": stage["stage"], "field": field, "before": before, "after": after})
            if not is_allowed:
                findings.append(_finding(stage["stage"], field, before, after))
    compared = sum(stage["compared"] for stage in stages)
    reason = None if compared else "nothing was compared"
    if stages and not stages[0]["is_new"]:
        reason = f"{stages[0]['stage']}: it had been imported before, so that nothing of it could be seen"
    status = Status.PASSED if reason is None else Status.INCONCLUSIVE
    if any(finding.severity == "error" for finding in findings):
        status = Status.FAILED
    return CheckResult(
        id=check_id,
        status=status,
        reason=reason if status is Status.INCONCLUSIVE else None,
        seconds=seconds,
        measurements={"compared": compared, "stages": len(stages), "changes": rows},
        findings=tuple(findings),
    )


def _finding(stage: str, field: str, before: Any, after: Any) -> Finding:
    harmless = field.startswith(_HARMLESS)
    what = f"{field} changes" if harmless else f"{field} was {before} and is {after}"
    cause = "code that runs on import, or while loading, sets it for the whole process"
    remedy = "restore it after the import, or import in a process of its own; report it to the package"
    if field == "warnings_filters":
        what = "Python's list of warning filters changes"
        cause = "a package that is imported here hides or shows some of its warnings: no number changes"
        remedy = "none is needed; where warnings of yours vanish, set your own filters after the import"
    return Finding(
        code="globals.changed",
        severity="warning" if harmless else "error",
        location=field,
        message=f"{stage}: {what}",
        expected=before,
        actual=after,
        cause=cause,
        remedy=remedy,
    )
