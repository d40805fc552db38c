"""The jobs of a comparison: loading and observing one side, saving and loading it, digesting the checkpoint.

In: loaders and a plan. Out: jobs, and a side put together from what one of them delivered.
"""

from pathlib import Path

from theworld_validate.documents.observations import EMPTY
from theworld_validate.parity.judge import Side
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.observing import DIGEST, OBSERVE, ROUND_TRIP, RoundTrip
from theworld_validate.results import Plan
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Part
from theworld_validate.workers.pool import Outcome
from theworld_validate.workers.run import describe_failure

DIGEST_JOB = "digest"  # the name of the job that digests the checkpoint


def observe_job(
    name: str,
    loader: Loader,
    plan: Plan,
    *,
    control: bool,
    round_trip: RoundTrip = "whole",
    deterministic: bool = True,
    sketch: bool = False,
) -> Job:
    """The job of loading and observing one side."""
    arguments = {
        "loader": loader,
        "probe_names": plan.probes,
        "control": control,
        "round_trip": round_trip,
        "deterministic": deterministic,
        "sketch": sketch,
    }
    return Job(name=name, function=OBSERVE, arguments=arguments, is_subject=True)


def round_trip_job(name: str, loader: Loader) -> Job:
    """The job of saving one side and loading it again."""
    return Job(name=name, function=ROUND_TRIP, arguments={"loader": loader}, is_subject=True)


def digest_jobs(loader: Loader) -> list[Job]:
    """The job of digesting a local checkpoint; none for a hub id."""
    if not Path(loader.checkpoint).is_dir():
        return []
    return [Job(name=DIGEST_JOB, function=DIGEST, arguments={"checkpoint": loader.checkpoint})]


def side_of(outcome: Outcome, run_name: str = "first") -> Side:
    """Put together the parts that a worker delivered in one of its runs."""
    merged = EMPTY
    for message in outcome.messages:
        if isinstance(message, Part) and message.run == run_name:
            merged = merged.merge(message.fingerprint)
    return Side(fingerprint=merged, ended=None if outcome.is_whole else describe_failure(outcome))
