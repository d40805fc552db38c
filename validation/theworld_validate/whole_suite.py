"""The bare command: every group of checks that this machine can run, or those that are asked for.

In: the names of groups, a checkpoint and how to load it. Out: check results, in the order in which they are made.
"""

from collections.abc import Callable, Sequence
from typing import Any

from theworld_validate.audit_suite import (
    check_buffers_of,
    check_claims_of,
    check_gradients_of,
    check_measured_of,
    check_memory_of_tiny,
    check_params_of,
)
from theworld_validate.results import CheckResult, InputError, Status, did_you_mean
from theworld_validate.suite import check_parity_of, check_world_of

Progress = Callable[[str], None]

GROUPS = ("parity", "world", "buffers", "gradients", "params", "globals", "memory", "claims")
SUITES = {"all": GROUPS, "gpu": (*GROUPS, "measure"), "parity": ("parity", "buffers", "globals")}


def choose_groups(suite: str, only: Sequence[str]) -> tuple[str, ...]:
    """The groups of checks that the options name, in the order in which they run.

    Raises:
        InputError: for a name that does not exist, with the closest that does.
    """
    every = SUITES["gpu"]
    for option, name, known in (("--suite", suite, SUITES), *(("--only", name, every) for name in only)):
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"{option} {name}: there is no such name; there are {', '.join(known)}{hint}")
    return tuple(name for name in every if name in (only or SUITES[suite]))


def check_everything(
    checkpoint: str,
    cosmos: str | None,
    *,
    groups: Sequence[str] = GROUPS,
    finished: list[CheckResult],
    progress: Progress,
    **loading: Any,
) -> list[CheckResult]:
    """Every check of the groups; those of the world branch are left out if `cosmos` is None.

    Args:
        finished: results are put here as they come, so that an interrupted run has those that it finished.
    """
    from theworld_validate.audits.global_state import check_globals

    both: dict[str, Any] = {"progress": progress, **loading}
    parity: list[CheckResult] = []

    def run_parity() -> Sequence[CheckResult]:
        parity.extend(check_parity_of(checkpoint, **both))
        return parity

    def run_claims() -> Sequence[CheckResult]:
        return check_claims_of(checkpoint, cosmos, parity=parity or None, **both)

    def run_params() -> Sequence[CheckResult]:
        return check_params_of(model=checkpoint, cosmos=cosmos, config=None, dtype=loading["dtype"], progress=progress)

    runs: dict[str, Callable[[], Sequence[CheckResult]]] = {
        "parity": run_parity,
        "buffers": lambda: check_buffers_of(checkpoint, cosmos, after=("save",), **both),
        "globals": lambda: check_globals(checkpoint, cosmos, **both),
        "memory": lambda: check_memory_of_tiny(progress),
        "claims": run_claims,
    }
    if cosmos is not None:
        runs |= {
            "world": lambda: check_world_of(checkpoint, cosmos, **both),
            "gradients": lambda: check_gradients_of(checkpoint, cosmos, **both),
            "params": run_params,
            "measure": lambda: _measure_some(checkpoint, cosmos, **both),
        }
    for name in groups:
        if name in runs:
            finished.extend(runs[name]())
        else:
            reason = "--model was given without --cosmos, and this is about the world branch"
            finished.append(CheckResult(id=name, status=Status.SKIPPED, reason=reason, seconds=0.0))
    return finished


def _measure_some(checkpoint: str, cosmos: str, **loading: Any) -> tuple[CheckResult, ...]:
    """Measure the memory of the two presets at the ends; skipped without a GPU."""
    import torch

    from theworld_validate.memory.cells import build_matrix

    if not torch.cuda.is_available():
        reason = "this machine has no CUDA device"
        return (CheckResult(id="memory.measure", status=Status.SKIPPED, reason=reason, seconds=0.0),)
    cells = build_matrix(preset=("projection", "full"), checkpointing=(False, True), text_tokens=(256,))
    loading.pop("dtype")
    return check_measured_of(checkpoint, cosmos, cells, **{**loading, "device": "cuda"})
