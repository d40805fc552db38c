"""What is known before anything is loaded: what must come back, and whether the checkpoint's files fit the model.

In: a loader and the names of probes. Out: `Agreed`; checks of what cannot be compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from theworld_validate.compare.explain import Evidence
from theworld_validate.documents.observations import Section
from theworld_validate.parity.causes import explain_checks
from theworld_validate.parity.jobs import side_of
from theworld_validate.parity.judge import check_files
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.observing import CONTROL, PLAN
from theworld_validate.parity.times import Observed, seconds_of
from theworld_validate.results import CheckResult, Measurement, Plan, Status
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run, describe_failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What is known before anything is loaded.

    Args:
        plan: what must come back.
        files: the checkpoint's section "files"; `seconds` is what reading them took.
        at_once: how many workers may be at work at the same time.
        threads: what each then takes; None leaves it to torch.
        unasked: what of the model no probe reaches, and why.
    """

    plan: Plan
    files: Section
    at_once: int
    threads: int | None
    unasked: tuple[str, ...] = ()
    seconds: Mapping[Observed, float] = field(default_factory=dict)


def plan_parity(loader: Loader, run: Run, probe_names: Sequence[str]) -> Agreed:
    """Check the checkpoint, and say what must come back.

    Raises:
        InputError: if the checkpoint cannot be used, or no probe has such a name.
    """
    arguments = {"loader": loader, "probe_names": tuple(probe_names)}
    (outcome,) = run.do([Job(name="plan", function=PLAN, arguments=arguments)])
    values = outcome.values
    if not outcome.is_whole or not values:
        raise RuntimeError(f"the plan was not made: {describe_failure(outcome)}")
    threads, at_once = values["threads"], values["at_once"]
    sections, probes = (tuple(map(str, _list_of(values[name]))) for name in ("sections", "probes"))
    return Agreed(
        plan=Plan(sections=sections, probes=probes),
        files=side_of(outcome).fingerprint.sections.get("files", {}),
        at_once=at_once if isinstance(at_once, int) else 1,
        threads=threads if isinstance(threads, int) else None,
        unasked=tuple(map(str, _list_of(values["unasked"]))),
        seconds=seconds_of({"plan": outcome}, control=CONTROL),
    )


def _list_of(value: Measurement) -> list[Any]:
    assert isinstance(value, list)
    return value


def refuse_files(agreed: Agreed) -> CheckResult | None:
    """The check of a checkpoint that nothing may be loaded from: both sides would draw the same random weight."""
    check = check_files(agreed.files, seconds=sum(agreed.seconds.values()))
    if check.status is not Status.FAILED:
        return None
    evidence = Evidence(compared=frozenset({"files"}), weights={}, inputs_equal={}, candidate_repeats=None)
    (explained,) = explain_checks([check], evidence)
    return replace(explained, reason="nothing was loaded: the checkpoint's files and the model do not fit")


def unasked_parts(agreed: Agreed) -> Iterator[CheckResult]:
    """One more check where a part of the model is asked nothing: equal state proves nothing of what it does."""
    if agreed.unasked:
        yield CheckResult(
            id="parity.unasked",
            status=Status.INCONCLUSIVE,
            reason=f"no probe reaches {'; '.join(agreed.unasked)}: give your own with --probes MODULE:FUNCTION",
            seconds=0.0,
        )
