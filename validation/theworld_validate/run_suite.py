"""Groups of checks, run: what can share the cores does, what can be started ahead is, and what fails costs its group.

In: a target, a run, and groups of the table. Out: check results, in the table's order.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from theworld_validate.environment import usable_cores
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.subjects.default_targets import check_the_worlds
from theworld_validate.suite import GROUPS, Checks, Earlier, Group
from theworld_validate.target import Target
from theworld_validate.workers.run import Run, check_in_workers

if TYPE_CHECKING:
    from theworld_validate.audits.fresh_process import FreshProcess


_PRELOAD = ("theworld_validate.workers.preload_world",)  # for the groups that build a world branch


@contextlib.contextmanager
def start_ahead(groups: Sequence[Group]) -> "Iterator[FreshProcess | None]":
    """Start what groups need and that takes seconds to start, before anything is known of a target.

    The workers' server imports what several of them need; the process for "globals" is a fork of it.
    """
    if GROUPS["globals"] not in groups or len(groups) == 1:
        yield None
        return
    from theworld_validate.audits.fresh_process import FreshProcess

    process = FreshProcess(begins_server=_PRELOAD)
    try:
        yield process
    finally:
        process.kill()


def run_groups(target: Target, run: Run, groups: Sequence[Group], *, process: "FreshProcess | None" = None) -> Checks:
    """Every check of some groups; those about a world branch that is not there are skipped.

    Args:
        process: of `start_ahead`.
    """
    done: list[CheckResult] = []
    if process is not None and target.device == "cpu":
        _begin_globals(process, target)
    for have_audits, some in itertools.groupby(groups, lambda group: group.audit is not None):
        earlier = Earlier(checks=done, process=process)
        for check in (_run_audits if have_audits else _run_in_turn)(list(some), target, run, earlier):
            done.append(check)
            yield check


def _begin_globals(process: "FreshProcess", target: Target) -> None:
    """Have "globals" at work beside the groups before it; on a GPU it would take their memory."""
    from theworld_validate.audits.global_state import begin_globals

    with contextlib.suppress(InputError):  # said when it is its turn
        check_the_worlds(target.checkpoint, "what its import changes")
        begin_globals(process, target)


def _run_audits(groups: Sequence[Group], target: Target, run: Run, earlier: Earlier) -> Checks:
    """Groups of one job each: on a CPU two at a time; on a GPU one, which may need all of its memory."""
    at_once, threads = 1, None
    if target.device == "cpu" and len(groups) > 1 and (cores := usable_cores()) > 1:
        at_once, threads = 2, cores // 2
    audits = []
    wrong: InputError | None = None
    for group in groups:
        if (skipped := _skip(group, target)) is not None:
            yield skipped
            continue
        assert group.audit is not None
        try:
            audit = group.audit(target, run, earlier)
        except InputError as error:  # what the groups before it find is kept
            wrong = error
            break
        except Exception as error:
            yield _internal_error(group, error, run)
            continue
        audits.append(replace(audit, job=replace(audit.job, threads=threads, is_long=group.is_long)))
    yield from check_in_workers(run, audits, at_once=at_once)
    if wrong is not None:
        raise wrong


def _run_in_turn(groups: Sequence[Group], target: Target, run: Run, earlier: Earlier) -> Checks:
    """One group after the other; an error of the harness itself costs its group alone."""
    for group in groups:
        if (skipped := _skip(group, target)) is not None:
            yield skipped
            continue
        assert group.work is not None
        try:
            yield from group.work(target, run, earlier)
        except InputError:
            raise
        except Exception as error:
            yield _internal_error(group, error, run)


def _internal_error(group: Group, error: Exception, run: Run) -> CheckResult:
    import traceback

    from theworld.checkpoints.bounded_files import one_line

    run.tracebacks.append("".join(traceback.format_exception(error)))
    reason = one_line(f"an error of the harness itself: {type(error).__name__}: {error}")
    return CheckResult(id=f"{group.id}.internal", status=Status.ERROR, reason=reason, seconds=0.0)


def _skip(group: Group, target: Target) -> CheckResult | None:
    """The check of a group that is about a world branch, where none was named."""
    if "cosmos" not in group.needs or target.cosmos is not None:
        return None
    reason = "--model was given without --cosmos, and this is about the world branch"
    return CheckResult(id=group.id, status=Status.SKIPPED, reason=reason, seconds=0.0)
