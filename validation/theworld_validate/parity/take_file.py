"""One subject's fingerprint, as a file.

In: a subject and a run. Out: everything observable about it, with what it is of and where it was made.
"""

from dataclasses import replace

from theworld_validate.documents.fingerprint import FingerprintFile, make_file
from theworld_validate.documents.observations import NOT_ASKED, PROBE_SECTIONS
from theworld_validate.environment import describe_machine
from theworld_validate.parity.jobs import observe_job, side_of
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.observing import TRUTH
from theworld_validate.parity.planning import plan_parity
from theworld_validate.results import InputError
from theworld_validate.workers.child import Job
from theworld_validate.workers.run import Run


def take_file(loader: Loader, run: Run, *, sketch: bool = False) -> FingerprintFile:
    """Load a subject in a worker and observe it whole.

    Args:
        sketch: also sketch the tensors of trace, outputs, generation and gradients.

    Raises:
        InputError: if it cannot be loaded, or does not deliver all that it is asked.
    """
    agreed = plan_parity(loader, run, ())
    (outcome,) = run.do([observe_job("model", loader, agreed.plan, control=False, sketch=sketch)])
    side = side_of(outcome)
    if side.ended:
        raise InputError(f"{loader.record('model').target}: {side.ended}")
    fingerprint = replace(side.fingerprint, sections={"files": agreed.files, **side.fingerprint.sections})
    # What cannot be put to a model is written down, and a comparison is then inconclusive there.
    if raised := [failure for failure in fingerprint.failures if failure.place != NOT_ASKED]:
        first = raised[0]
        raise InputError(f"{loader.record('model').target}: {first.section}: raises {first.error} at {first.place}")
    return make_file(
        fingerprint,
        subject=loader.record("model"),
        environment=run.environment or describe_machine(),
        plan=agreed.plan,
    )


def take_truth(loader: Loader, run: Run) -> FingerprintFile:
    """Run a subject that is loaded in a wider dtype, with sketches: what the referee judges by.

    Raises:
        InputError: if it cannot be loaded, or does not deliver all that it is asked.
    """
    agreed = plan_parity(loader, run, ())
    arguments = {"loader": loader, "probe_names": agreed.plan.probes}
    (outcome,) = run.do([Job(name="truth", function=TRUTH, arguments=arguments, is_subject=True)])
    side = side_of(outcome)
    subject = loader.record("truth")
    if side.ended:
        raise InputError(f"{subject.target} in {subject.dtype}: {side.ended}")
    sections = tuple(name for name in agreed.plan.sections if name in (*PROBE_SECTIONS, "gradients"))
    return make_file(
        side.fingerprint,
        subject=subject,
        environment=run.environment or describe_machine(),
        plan=replace(agreed.plan, sections=sections),
    )
