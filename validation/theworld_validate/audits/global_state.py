"""What importing and loading change of a process's global state, seen from fresh processes.

In: checkpoints, and modules to import. Out: one check for each of theworld, its world branch, diffusers' Cosmos
pipeline and every named module. Each runs after torch and what it builds on, so that it answers for itself alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from theworld_validate.results import CheckResult, Finding, InputError, Status
from theworld_validate.subjects.subject import CANDIDATE_TARGET, REFERENCE_TARGET, Subject

Progress = Callable[[str], None]
# A world branch that is new is initialised: it draws random numbers by design.
_ALLOWED = {"load with the branch on": {"rng_state_cpu", "rng_state_cuda"}}
# Third-party imports add these; they change no result.
_HARMLESS = ("environment.", "warnings_filters")
_COSMOS_PIPELINE = "diffusers:Cosmos2VideoToWorldPipeline"


def check_globals(
    checkpoint: str,
    cosmos: str | None,
    *,
    modules: Sequence[str] = (),
    progress: Progress = lambda step: None,
    **loading: Any,
) -> tuple[CheckResult, ...]:
    """Start one fresh process for each target, all at once, and compare global state before and after each stage.

    Args:
        checkpoint, cosmos: what is loaded; the world branch's stages are left out if `cosmos` is None.
        modules: further modules to import.
        loading: fields of `Subject`.

    Raises:
        InputError: if a module cannot be imported.
    """
    progress("globals, in fresh processes")
    started = time.perf_counter()
    plans = {"theworld": _theworld_plan(checkpoint, cosmos, loading)}
    if cosmos is not None:
        plans["cosmos_pipeline"] = _import_plan("import", {"get": _COSMOS_PIPELINE})
    plans |= {name: _import_plan(f"import {name}", {"import": name}) for name in modules}
    processes = {name: _start(plan) for name, plan in plans.items()}
    try:
        outcomes = {name: _finish(name, process, plans[name]) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    seconds = (time.perf_counter() - started) / len(plans)
    return tuple(judge_stages(f"globals.{name}", stages, seconds=seconds) for name, stages in outcomes.items())


def _theworld_plan(checkpoint: str, cosmos: str | None, loading: dict[str, Any]) -> dict[str, Any]:
    def load(target: str, cosmos: str | None = None) -> dict[str, Any]:
        return {"load": asdict(Subject(target=target, checkpoint=checkpoint, cosmos=cosmos, **loading))}

    stages = [
        ["import theworld", {"get": CANDIDATE_TARGET}],
        ["load with the branch off", load(CANDIDATE_TARGET)],
    ]
    if cosmos is not None:
        stages += [
            ["import diffusers' VAE", {"get": "diffusers:AutoencoderKLWan"}],
            ["load with the branch on", load(CANDIDATE_TARGET, cosmos)],
        ]
    # What the base class changes is not theworld's.
    return {"baseline": [{"get": REFERENCE_TARGET}, load(REFERENCE_TARGET)], "stages": stages}


def _import_plan(title: str, step: dict[str, Any]) -> dict[str, Any]:
    return {"baseline": [{"import": "torch"}, {"get": REFERENCE_TARGET}], "stages": [[title, step]]}


def _start(plan: dict[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "theworld_validate.audits.global_probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(plan))
    process.stdin.close()
    process.stdin = None  # `communicate` would flush it again
    return process


def _finish(name: str, process: subprocess.Popen[str], plan: dict[str, Any]) -> list[dict[str, Any]]:
    stdout, stderr = process.communicate()
    if process.returncode:
        last = (stderr.strip().splitlines() or ["no message"])[-1]
        what = "--import" if "import" in plan["stages"][0][1] else "globals of"
        raise InputError(f"{what} {name}: {last}")
    return json.loads(stdout)


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
    status = Status.FAILED if any(finding.severity == "error" for finding in findings) else Status.PASSED
    return CheckResult(
        id=check_id,
        status=status if compared else Status.INCONCLUSIVE,
        reason=None if compared else "nothing was compared",
        seconds=seconds,
        measurements={"compared": compared, "stages": len(stages), "changes": rows},
        findings=tuple(findings),
    )


def _finding(stage: str, field: str, before: Any, after: Any) -> Finding:
    harmless = field.startswith(_HARMLESS)
    what = f"{field} changes" if harmless else f"{field} was {before} and is {after}"
    return Finding(
        code="globals.changed",
        severity="warning" if harmless else "error",
        location=field,
        message=f"{stage}: {what}",
        expected=before,
        actual=after,
        cause="code that runs on import, or while loading, sets it for the whole process",
        remedy="restore it after the import, or import in a process of its own; report it to the package",
    )
